package marathon_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	client "github.com/gambol99/go-marathon"
)

// go-marathon drives an app through its whole life.
func TestGoMarathon(t *testing.T) {
	t.Parallel()
	d := start(t, nil)
	m := d.client()
	if ok, err := m.Ping(); !ok || err != nil {
		t.Fatalf("ping: %v, %v", ok, err)
	}
	events, err := m.AddEventsListener(client.EventIDApplications | client.EventIDDeploymentSuccess)
	if err != nil {
		t.Fatal(err)
	}
	defer m.RemoveEventsListener(events)

	app := client.NewDockerApplication().Name("/grp/sleeper").CPU(0.1).Memory(16).Count(2)
	app.Container = nil
	app.Command("sleep 1000").AddEnv("A", "b").AddLabel("team", "x")
	created, err := m.CreateApplication(app)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.WaitOnApplication(created.ID, 20*time.Second); err != nil {
		t.Fatal(err)
	}
	wait := func(id string) {
		t.Helper()
		if err := m.WaitOnDeployment(id, 30*time.Second); err != nil {
			t.Fatal(err)
		}
	}
	got, err := m.Application(created.ID)
	if err != nil || got.TasksRunning != 2 || *got.Instances != 2 || (*got.Env)["A"] != "b" {
		t.Fatalf("%+v, %v", got, err)
	}
	if ok, err := m.ApplicationOK(created.ID); !ok || err != nil {
		t.Errorf("ApplicationOK %v, %v", ok, err)
	}
	scaled, err := m.ScaleApplicationInstances(created.ID, 3, false)
	if err != nil {
		t.Fatal(err)
	}
	wait(scaled.DeploymentID)
	tasks, err := m.Tasks(created.ID)
	if err != nil || len(tasks.Tasks) != 3 {
		t.Fatalf("%v, %v", tasks, err)
	}
	victim := tasks.Tasks[0].ID
	if killed, err := m.KillTask(victim, nil); err != nil || killed.ID != victim {
		t.Errorf("KillTask: %v, %v", killed, err)
	}
	if err := m.KillTasks([]string{tasks.Tasks[1].ID}, &client.KillTaskOpts{Scale: true}); err != nil {
		t.Error(err)
	}
	d.running("/grp/sleeper", 2)

	update := client.NewDockerApplication().Name(created.ID).CPU(0.1).Memory(16).Count(2)
	update.Container = nil
	update.Command("sleep 2000")
	changed, err := m.UpdateApplication(update, false)
	if err != nil {
		t.Fatal(err)
	}
	wait(changed.DeploymentID)
	restarted, err := m.RestartApplication(created.ID, false)
	if err != nil {
		t.Fatal(err)
	}
	wait(restarted.DeploymentID)
	versions, err := m.ApplicationVersions(created.ID)
	if err != nil || len(versions.Versions) < 4 {
		t.Errorf("versions %v, %v", versions, err)
	}
	if _, err := m.CreateApplication(app); !isCode(err, client.ErrCodeDuplicateID) {
		t.Errorf("a second creation: %v", err)
	}
	if _, err := m.Application("/nope"); !isCode(err, client.ErrCodeNotFound) {
		t.Errorf("an unknown app: %v", err)
	}
	if apps, err := m.ListApplications(nil); err != nil || len(apps) != 1 || apps[0] != "/grp/sleeper" {
		t.Errorf("apps %v, %v", apps, err)
	}
	if groups, err := m.Groups(); err != nil || len(groups.Groups) != 1 || groups.Groups[0].ID != "/grp" {
		t.Errorf("groups %+v, %v", groups, err)
	}
	if info, err := m.Info(); err != nil || info.FrameworkID == "" {
		t.Errorf("info %+v, %v", info, err)
	}
	if leader, err := m.Leader(); err != nil || leader != strings.TrimPrefix(d.url, "http://") {
		t.Errorf("leader %q, %v", leader, err)
	}
	if queue, err := m.Queue(); err != nil || len(queue.Items) != 0 {
		t.Errorf("queue %v, %v", queue, err)
	}
	deleted, err := m.DeleteApplication(created.ID, true)
	if err != nil {
		t.Fatal(err)
	}
	wait(deleted.DeploymentID)
	if len(d.tasks("")) != 0 {
		t.Errorf("tasks %v after the deletion", d.tasks(""))
	}
	seen := map[string]int{}
	for deadline := time.After(10 * time.Second); seen["status_update_event"] == 0 || seen["deployment_success"] == 0; {
		select {
		case e := <-events:
			seen[e.Name]++
		case <-deadline:
			t.Fatalf("events %v: some are missing", seen)
		}
	}
}

func isCode(err error, code int) bool {
	var e *client.APIError
	return errors.As(err, &e) && e.ErrCode == code
}

// What locks an app is named, can be cancelled, and can be overridden.
func TestGoMarathonDeployments(t *testing.T) {
	t.Parallel()
	d := start(t, nil)
	m := d.client()
	d.post(`{"id":"/stuck","cmd":"exit 3","backoffSeconds":60,"healthChecks":[{"protocol":"TCP"}]}`)
	d.until(10*time.Second, "it has failed", func() bool {
		a, err := m.Application("/stuck")
		return err == nil && a.LastTaskFailure != nil && a.LastTaskFailure.State == "TASK_FAILED"
	})
	queue, err := m.Queue()
	if err != nil || len(queue.Items) != 1 || queue.Items[0].Delay.TimeLeftSeconds < 50 {
		t.Errorf("queue %+v, %v", queue, err)
	}
	if _, err := m.ScaleApplicationInstances("/stuck", 2, false); !isCode(err, client.ErrCodeAppLocked) {
		t.Errorf("a change of a locked app: %v", err)
	}
	list, err := m.Deployments()
	if err != nil || len(list) != 1 || list[0].CurrentStep != 2 || list[0].AffectedApps[0] != "/stuck" {
		t.Fatalf("deployments %+v, %v", list, err)
	}
	if has, err := m.HasDeployment(list[0].ID); err != nil || !has {
		t.Errorf("HasDeployment %v, %v", has, err)
	}
	if err := m.DeleteQueueDelay("/stuck"); err != nil {
		t.Error(err)
	}
	// This client knows no force here: the deployment is undone, and it made the app.
	undone, err := m.DeleteDeployment(list[0].ID, true)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.WaitOnDeployment(undone.DeploymentID, 20*time.Second); err != nil {
		t.Error(err)
	}
	if _, err := m.Application("/stuck"); !isCode(err, client.ErrCodeNotFound) {
		t.Errorf("the app after its creation was undone: %v", err)
	}

	d.post(`{"id":"/stuck","cmd":"sleep 1000","cpus":1000}`)
	if list, err = m.Deployments(); err != nil || len(list) != 1 {
		t.Fatalf("deployments %+v, %v", list, err)
	}
	if r := d.call("DELETE", "/v2/deployments/"+list[0].ID+"?force=true", ""); r.status != 202 || r.body != "" {
		t.Errorf("a cancellation: %+v, want 202 and nothing", r)
	}
	if list, err := m.Deployments(); err != nil || len(list) != 0 {
		t.Errorf("deployments %+v, %v after the cancellation", list, err)
	}
	if _, err := m.ScaleApplicationInstances("/stuck", 0, false); err != nil {
		t.Error(err)
	}
}
