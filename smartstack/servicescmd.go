package smartstack

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/pflag"

	"github.com/gopaasta/paasta/paasta/command"
	"github.com/gopaasta/paasta/paasta/soaconfig"
)

// servicesCommand shows what the nerve half registers.
func servicesCommand(w Wiring) command.Command {
	var asJSON, check bool
	return command.Command{
		Use:   "services [--check] [--json]",
		Short: "Show the services of this host that the agent checks and registers",
		Long: `Show the services of the services directory (one file each) as the running agent
sees them: address, health and why, weight, drain. With --check, read the files
only and report every problem; no agent is needed. Exits 3 if a service is down, 1
if a file is broken.`,
		Example: `  paasta smartstack services
  paasta smartstack services --check`,
		Flags: func(f *pflag.FlagSet) {
			f.BoolVar(&asJSON, "json", false, "print JSON")
			f.BoolVar(&check, "check", false, "read the files only")
		},
		Run: func(ctx context.Context, io command.IO, args []string) error {
			if err := command.NoArgs(args); err != nil {
				return err
			}
			c, err := w.Config()
			if err != nil {
				return err
			}
			if check {
				return checkServices(io, c.Smartstack.ServicesDir)
			}
			return showServices(ctx, io, "http://"+c.Smartstack.Listen+"/v1/services", asJSON)
		},
	}
}

func checkServices(io command.IO, dir string) error {
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		return err
	}
	valid, wrong, broken := 0, 0, 0
	for _, file := range files {
		switch filepath.Ext(file) {
		case ".yaml", ".yml", ".json":
		default:
			continue
		}
		_, problems := soaconfig.ReadLocalService(file)
		for _, p := range problems {
			fmt.Fprintln(io.Out, p.ClassLine())
		}
		switch {
		case len(problems.Of(soaconfig.Broken)) > 0:
			broken++
		case len(problems.Of(soaconfig.Wrong)) > 0:
			wrong++
		default:
			valid++
		}
	}
	fmt.Fprintf(io.Err, "%s: %d files are right, %d have mistakes that stop nothing, %d are broken\n", dir, valid, wrong, broken)
	if wrong+broken > 0 {
		return command.ExitError{Code: 1}
	}
	return nil
}

// errAbsent says that the agent does not have what it was asked for.
var errAbsent = errors.New("404 Not Found")

// getJSON reads an answer of the agent on this host.
func getJSON(ctx context.Context, url string, answer any) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return command.WithHint(err, "start the agent (paasta smartstack), or check the files without it: paasta smartstack services --check")
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusNotFound {
		return fmt.Errorf("GET %s: %w", url, errAbsent)
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s: %s", url, resp.Status)
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, 64<<20)).Decode(answer); err != nil {
		return fmt.Errorf("GET %s: %w", url, err)
	}
	return nil
}

func showServices(ctx context.Context, out command.IO, url string, asJSON bool) error {
	var all LocalServices
	if err := getJSON(ctx, url, &all); err != nil {
		return err
	}
	if asJSON {
		if err := command.WriteJSON(out.Out, all); err != nil {
			return err
		}
	} else {
		printServices(out.Out, all)
	}
	for _, p := range append(all.Broken, all.Wrong...) {
		fmt.Fprintln(out.Err, p)
	}
	if len(all.Broken) > 0 {
		return command.ExitError{Code: 1}
	}
	for _, s := range all.Services {
		if !s.Up {
			return command.ErrNotHealthy
		}
	}
	return nil
}

func printServices(out io.Writer, all LocalServices) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, s := range all.Services {
		state := "up"
		switch {
		case !s.Up:
			state = "down: " + s.Why
		case s.Drain != nil && s.Drain.Expiration != nil:
			state = "draining until " + s.Drain.Until().UTC().Format(time.RFC3339) + ": " + s.Drain.Reason
		case s.Drain != nil:
			state = "draining: " + s.Drain.Reason
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%s\t%s\n", s.Service, s.Address, s.Weight, strings.Join(s.Registrations, ","), state)
	}
	_ = w.Flush() // to stdout: whoever closed it knows
}
