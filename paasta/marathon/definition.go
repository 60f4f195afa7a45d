package marathon

// A Definition is an app as we post it: the legacy dialect for Docker networks
// and ports, which every Marathon since 0.13 accepts, and since 1.3 a Docker
// network by its name; those since 1.5 make "networks" of it themselves.
type Definition struct {
	ID                    string            `json:"id"`
	Cmd                   *string           `json:"cmd,omitempty"`
	Args                  []string          `json:"args,omitempty"`
	CPUs                  float64           `json:"cpus"`
	Mem                   float64           `json:"mem"`
	Disk                  float64           `json:"disk"`
	GPUs                  *int              `json:"gpus,omitempty"`
	Instances             int               `json:"instances"`
	Env                   map[string]string `json:"env"`
	Labels                map[string]string `json:"labels"`
	Constraints           [][]string        `json:"constraints,omitempty"`
	AcceptedResourceRoles []string          `json:"acceptedResourceRoles,omitempty"`
	Container             Container         `json:"container"`
	IPAddress             *IPAddress        `json:"ipAddress,omitempty"`
	PortDefinitions       []PortDefinition  `json:"portDefinitions,omitempty"`
	RequirePorts          bool              `json:"requirePorts,omitempty"`
	URIs                  []string          `json:"uris,omitempty"`
	HealthChecks          []HealthCheck     `json:"healthChecks,omitempty"`
	BackoffSeconds        int               `json:"backoffSeconds"`
	BackoffFactor         float64           `json:"backoffFactor"`
	MaxLaunchDelaySeconds int               `json:"maxLaunchDelaySeconds"`
}

// A Container is the container of a Definition.
type Container struct {
	Type    string   `json:"type"` // DOCKER; MESOS for GPUs
	Docker  Docker   `json:"docker"`
	Volumes []Volume `json:"volumes"`
}

// Docker is the image and how it is run.
type Docker struct {
	Image        string        `json:"image"`
	Network      string        `json:"network,omitempty"` // BRIDGE, HOST, or USER for that of the Definition's IPAddress
	PortMappings []PortMapping `json:"portMappings,omitempty"`
	Parameters   []Parameter   `json:"parameters,omitempty"`
}

// An IPAddress names the Docker network of an app whose Docker.Network is USER.
type IPAddress struct {
	NetworkName string `json:"networkName"`
}

// A Parameter becomes --Key=Value of docker run.
type Parameter struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

// A PortMapping publishes ContainerPort; HostPort 0 means any.
type PortMapping struct {
	ContainerPort int    `json:"containerPort"`
	HostPort      int    `json:"hostPort"`
	Protocol      string `json:"protocol"`
}

// A PortDefinition is a port on the host's network.
type PortDefinition struct {
	Port     int    `json:"port"`
	Protocol string `json:"protocol"`
}

// A Volume is a host path in the container.
type Volume struct {
	ContainerPath string `json:"containerPath"`
	HostPath      string `json:"hostPath"`
	Mode          string `json:"mode"`
}

// A HealthCheck is run by Marathon or, for the MESOS_ protocols, by Mesos.
type HealthCheck struct {
	Protocol               string   `json:"protocol"`
	Path                   string   `json:"path,omitempty"`
	PortIndex              *int     `json:"portIndex,omitempty"`
	Command                *Command `json:"command,omitempty"`
	GracePeriodSeconds     int      `json:"gracePeriodSeconds"`
	IntervalSeconds        int      `json:"intervalSeconds"`
	TimeoutSeconds         int      `json:"timeoutSeconds"`
	MaxConsecutiveFailures int      `json:"maxConsecutiveFailures"`
}

// A Command is what a COMMAND check runs.
type Command struct {
	Value string `json:"value"`
}
