package cli

import (
	"testing"
	"time"

	"github.com/spf13/cobra"
)

// What scripts for PaaSTA type means what it means there.
func TestCompatible(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		flag, other string
		args        []string
		want        string
	}{
		{"deploy-groups", "", []string{"--deploy-group", "a"}, "[a]"},
		{"deploy-groups", "deploy-group", []string{"--deploy-groups", "a"}, "[a]"},
		{"deploy-groups", "deploy-group", []string{"--deploy-group", "a"}, "[]"},
		{"instances", "", []string{"--instance=a"}, "a"},
		{"clusters", "", []string{"--cluster", "a"}, "a"},
		{"timeout", "", []string{"-t", "600"}, "10m0s"},
		{"timeout", "", []string{"--time", "10m"}, "10m0s"},
		{"timeout", "", []string{"-t", "1.5"}, "1.5s"},
		{"window", "", []string{"--window", "90"}, "1m30s"},
		{"window", "", []string{"--window", "2m"}, "2m0s"},
		{"from", "", []string{"--fr", "a"}, "error"},
		{"commit", "command", []string{"--comm", "a"}, "error"},
	} {
		cmd := &cobra.Command{Use: "try"}
		var d time.Duration
		for _, name := range []string{tc.flag, tc.other} {
			switch name {
			case "":
			case "timeout":
				timeoutFlag(cmd, &d, "t", "")
			case "window":
				cmd.Flags().Duration(name, time.Minute, "")
			case "deploy-groups":
				cmd.Flags().StringSlice(name, nil, "")
			default:
				cmd.Flags().String(name, "", "")
			}
		}
		compatible(cmd)
		err := cmd.ParseFlags(tc.args)
		got := "error"
		if err == nil {
			got = cmd.Flags().Lookup(tc.flag).Value.String()
		}
		if got != tc.want {
			t.Errorf("%q: %s is %s (%v), want %s", tc.args, tc.flag, got, err, tc.want)
		}
	}
}
