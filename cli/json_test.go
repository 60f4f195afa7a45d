package cli

import (
	"os"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// showNothing are the commands that have no answer for programs to read: what
// they do is told by the exit code.
var showNothing = map[string]string{
	"start": "writes tags", "stop": "writes tags", "restart": "writes tags",
	"cook-image": "prints what make prints", "itest": "prints what make prints", "push-to-registry": "pushes",
	"security-check": "prints what the check prints", "performance-check": "asks for a check",
	"docker-exec": "prints what the command prints", "docker-inspect": "always prints JSON", "docker-stop": "stops a task",
	"local-run":  "prints what the service prints; --dry-run is always JSON",
	"completion": "prints a script", "git-hook": "prints a script", "reference": "prints a page", "demo": "runs a service",
	"test-deps run": "prints what the command prints", "test-deps gateway": "serves",
	"playground logs": "prints logs", "playground shell": "opens a shell",
	"playground supervise": "serves", "playground forward": "serves", "playground restrict": "changes the kernel's rules",
	"test-deps down": "removes", "test-deps exec": "prints what the command prints", "test-deps logs": "prints what the dependencies print",
	"playground up": "starts", "playground down": "removes", "playground exec": "prints what the command prints",
	"help": "prints help",
}

// needDocker have a test of their own.
var needDocker = map[string]bool{"test-deps up": true, "test-deps status": true, "playground status": true}

// Every command that shows data has --json, and json.txtar runs it.
func TestEveryCommandShowsJSON(t *testing.T) {
	t.Parallel()
	script, err := os.ReadFile("testdata/script/json.txtar")
	if err != nil {
		t.Fatal(err)
	}
	env, _, _ := testEnv()
	everyCommand(newRoot(env), func(cmd *cobra.Command) {
		name := strings.TrimPrefix(cmd.CommandPath(), "paasta ")
		switch {
		case cmd.HasSubCommands() || showNothing[name] != "" && cmd.Flags().Lookup("json") == nil:
		case cmd.Flags().Lookup("json") == nil:
			t.Errorf("%s has no --json, and showNothing does not say why", name)
		case !needDocker[name] && !strings.Contains(string(script), "\njson "+name):
			t.Errorf("json.txtar does not run %s", name)
		case !strings.Contains(helpText(cmd), "--json"):
			t.Errorf("the help of %s does not mention --json", name)
		}
	})
}
