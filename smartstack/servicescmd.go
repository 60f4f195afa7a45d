package smartstack

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/pflag"

	"github.com/gopaasta/paasta/paasta/command"
	"github.com/gopaasta/paasta/paasta/soaconfig"
	"github.com/gopaasta/paasta/smartstack/internal/nerve"
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
			if len(args) > 0 {
				return command.UsageError{Err: fmt.Errorf("unexpected argument %q", args[0])}
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
	sound, broken := 0, 0
	for _, file := range files {
		switch filepath.Ext(file) {
		case ".yaml", ".yml", ".json":
		default:
			continue
		}
		if _, problems := soaconfig.ReadLocalService(file); len(problems) > 0 {
			fmt.Fprintln(io.Out, problems.Error())
			broken++
			continue
		}
		sound++
	}
	fmt.Fprintf(io.Err, "%s: %d services are sound, %d files are broken\n", dir, sound, broken)
	if broken > 0 {
		return command.ExitError{Code: 1}
	}
	return nil
}

func showServices(ctx context.Context, out command.IO, url string, asJSON bool) error {
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
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s: %s", url, resp.Status)
	}
	var all LocalServices
	if err := json.NewDecoder(io.LimitReader(resp.Body, 64<<20)).Decode(&all); err != nil {
		return fmt.Errorf("GET %s: %w", url, err)
	}
	if asJSON {
		e := json.NewEncoder(out.Out)
		e.SetIndent("", "  ")
		if err := e.Encode(all); err != nil {
			return err
		}
	} else {
		printServices(out.Out, all)
	}
	if len(all.Broken) > 0 {
		for _, p := range all.Broken {
			fmt.Fprintln(out.Err, p)
		}
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

// drainCommand writes a drain file.
func drainCommand(w Wiring) command.Command {
	var reason string
	var expires time.Duration
	return command.Command{
		Use:   "drain SERVICE [--for DURATION] [--reason TEXT]",
		Short: "Publish a service of this host with weight 0, so that its traffic drains",
		Long: `Publish a service of the services directory with weight 0: every host sends its
new requests elsewhere, and what is under way ends by itself. The drain ends after
--for, or by "paasta smartstack undrain".`,
		Example: `  paasta smartstack drain mysql.main --for 30m --reason "upgrade of the disk"
  paasta smartstack undrain mysql.main`,
		Flags: func(f *pflag.FlagSet) {
			f.StringVarP(&reason, "reason", "r", "", "why, for those who look (default: who asked)")
			f.DurationVar(&expires, "for", 0, "end the drain after this time (default: never)")
		},
		Run: func(_ context.Context, io command.IO, args []string) error {
			dir, service, err := oneService(w, args)
			if err != nil {
				return err
			}
			if expires < 0 {
				return command.UsageError{Err: errors.New("--for: want a time to come, such as 30m")}
			}
			if reason == "" {
				reason = "drained by " + who()
			}
			now := time.Now()
			d := nerve.Drain{Reason: reason, Creation: float64(now.Unix())}
			until := "until it is undrained"
			if expires > 0 {
				end := float64(now.Add(expires).Unix())
				d.Expiration = &end
				until = "until " + now.Add(expires).Format(time.RFC3339)
			}
			if err := nerve.WriteDrain(dir, service, d); err != nil {
				return err
			}
			fmt.Fprintf(io.Err, "%s drains %s\n", service, until)
			return nil
		},
	}
}

// undrainCommand removes a drain file.
func undrainCommand(w Wiring) command.Command {
	return command.Command{
		Use:   "undrain SERVICE",
		Short: "End the drain of a service of this host",
		Long:  `End the drain of a service of the services directory: it gets traffic again at once.`,
		Example: `  paasta smartstack undrain mysql.main
  paasta smartstack services`,
		Run: func(_ context.Context, io command.IO, args []string) error {
			dir, service, err := oneService(w, args)
			if err != nil {
				return err
			}
			was, err := nerve.RemoveDrain(dir, service)
			if err != nil {
				return err
			}
			if !was {
				fmt.Fprintf(io.Err, "%s was not draining\n", service)
				return nil
			}
			fmt.Fprintf(io.Err, "%s takes traffic again\n", service)
			return nil
		},
	}
}

// oneService returns the directory of the drain files and the service that args
// name, which must have a file.
func oneService(w Wiring, args []string) (dir, service string, err error) {
	if len(args) != 1 {
		return "", "", command.UsageError{Err: errors.New("want one SERVICE, the name of its file without extension")}
	}
	c, err := w.Config()
	if err != nil {
		return "", "", err
	}
	for _, extension := range []string{".yaml", ".yml", ".json"} {
		if _, err := os.Stat(filepath.Join(c.Smartstack.ServicesDir, args[0]+extension)); err == nil {
			return drainDir(c), args[0], nil
		}
	}
	return "", "", command.WithHint(fmt.Errorf("%s has no service %q", c.Smartstack.ServicesDir, args[0]), "paasta smartstack services")
}

func who() string {
	for _, name := range []string{"SUDO_USER", "SSH_USER"} {
		if v := os.Getenv(name); v != "" {
			return v
		}
	}
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return "somebody"
}
