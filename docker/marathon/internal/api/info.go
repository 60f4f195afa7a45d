package api

import (
	"net"
	"net/http"
	"strconv"
	"strings"

	"github.com/gopaasta/paasta/docker/marathon/internal/core"
)

// Version is the version of Marathon whose dialect this is.
const Version = "1.5.11"

func (q *request) listDeployments() (any, error) { return q.m.Deployments(), nil }

// stopDeployment undoes a deployment, or with force ends it where it is.
func (q *request) stopDeployment() (any, error) {
	if q.flag("force") {
		q.status = http.StatusAccepted
		return nil, q.m.StopDeployment(q.now, q.id[1:])
	}
	return q.deployed(q.m.RevertDeployment(q.now, q.by, q.id[1:]))
}

func (q *request) listQueue() (any, error) {
	unused := false
	for _, e := range q.query["embed"] {
		unused = unused || strings.HasSuffix(e, "lastUnusedOffers")
	}
	return map[string]any{"queue": q.m.Queue(q.now, unused)}, nil
}

func (q *request) resetDelay() (any, error) {
	if !q.m.ResetDelay(q.now, q.id) {
		return nil, core.Refuse(http.StatusNotFound, "Application %s not found in tasks queue.", q.id)
	}
	q.status = http.StatusNoContent
	return nil, nil
}

func (q *request) leader() (any, error) { return map[string]string{"leader": q.Leader}, nil }

// abdicate does nothing: there is nobody else, so we would lead again at once.
func (q *request) abdicate() (any, error) {
	return map[string]string{"message": "Leadership abdicated"}, nil
}

func (q *request) info() (any, error) {
	host, text, _ := net.SplitHostPort(q.Leader)
	port, _ := strconv.Atoi(text) // a listener's address
	return map[string]any{
		"name": "marathon", "version": Version, "buildref": "paasta", "elected": true, "leader": q.Leader,
		"frameworkId": q.m.FrameworkID(),
		"marathon_config": map[string]any{
			"master": "local", "framework_name": "marathon", "ha": false, "checkpoint": true, "hostname": host,
			"local_port_min": 10000, "local_port_max": 20000, "executor": "//cmd", "failover_timeout": 604800,
			"mesos_role": nil, "mesos_user": "root", "mesos_leader_ui_url": "http://" + q.Leader + "/", "webui_url": nil,
			"task_launch_timeout": 300000, "task_launch_confirm_timeout": 300000, "reconciliation_initial_delay": 15000,
			"reconciliation_interval": 600000, "scale_apps_initial_delay": 15000, "scale_apps_interval": 300000,
			"features": []string{}, "decline_offer_duration": 120000, "access_control_allow_origin": nil,
		},
		"zookeeper_config": map[string]any{
			"zk": "zk://localhost:2181/marathon", "zk_timeout": 10000, "zk_session_timeout": 10000, "zk_connection_timeout": 10000,
			"zk_max_versions": 50, "zk_max_node_size": 1024000, "zk_compression": true, "zk_compression_threshold": 65536,
		},
		"http_config": map[string]any{"http_port": port, "https_port": 0},
	}, nil
}
