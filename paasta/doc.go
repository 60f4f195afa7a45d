// Package paasta is the language of the system: the names, ids and tags that
// every part exchanges. It is pure: it imports only the standard library and
// never acts.
//
// The words, as code, flags, logs and docs use them:
//
//   - service: a git repository that produces one Docker image; also the name
//     of its directory in soa-configs.
//   - cluster: one Marathon installation, e.g. "norcal-prod".
//   - instance: one named way of running a service in one cluster, a key of
//     marathon-CLUSTER.yaml; written "service.instance".
//   - deploy group: a label shared by instances that always run the same commit.
//   - size: how many tasks an instance should have (the YAML key is
//     "instances").
//   - app: one Marathon app = instance + code + config; changing code or config
//     means a new app.
//   - task: one running container (or process) of an app.
//   - namespace: a key of smartstack.yaml; "service.namespace" is a
//     registration.
//   - entry: one task under a registration, in ZooKeeper.
//   - backend: an entry as a server in HAProxy.
//   - bounce: moving an instance from its old apps to its new one.
//   - drain: taking a task out of traffic before it is killed.
//   - happy: running, healthy, and in the load balancers.
package paasta
