package marathon

// Labels that every app of ours carries. Marathon shows them, status reads
// them, and LabelCluster says whose the app is.
const (
	LabelService       = "paasta_service"
	LabelInstance      = "paasta_instance"
	LabelCluster       = "paasta_cluster"
	LabelGitSHA        = "paasta_git_sha"       // full commit
	LabelConfigSHA     = "paasta_config_sha"    // as in the app's id
	LabelConfigBase    = "paasta_config_base"   // ConfigHash without a refresh
	LabelSystemSHA     = "paasta_system_sha"    // SystemHash: what system-wide values made of it
	LabelDeployGroup   = "paasta_deploy_group"  // of the instance
	LabelRegistrations = "paasta_registrations" // comma-separated, the primary first
	// LabelDeployedBefore is the commit that was fully deployed in the group when
	// the app was made: with it, a ZooKeeper that lost its data does not lose where
	// to roll back to. It is no part of what an app is compared by.
	LabelDeployedBefore = "paasta_deployed_before"
)
