package smartstack

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"time"

	"github.com/spf13/pflag"

	"github.com/gopaasta/paasta/paasta/command"
	"github.com/gopaasta/paasta/smartstack/internal/nerve"
)

// drainCommand writes a drain file.
func drainCommand(w Wiring) command.Command {
	var reason string
	var expires time.Duration
	var wait waitFlags
	return command.Command{
		Use:   "drain SERVICE [--for DURATION] [--reason TEXT] [--wait]",
		Short: "Drain a service of this host: it gets no new requests",
		Long: `Publish a service of the services directory as draining: every host sends its new
requests elsewhere, and what is under way ends by itself. Hosts that still run
Airbnb's synapse find it no more. The drain ends after --for, or by
"paasta smartstack undrain".

With --wait it returns once HAProxy on this host sends nothing there, hosts with
synapse had drain_grace (2s) to see it, and no connection to the service is left,
from whichever host; 1 if that takes longer than updown_timeout_s of its
registrations, or --timeout.`,
		Example: `  paasta smartstack drain mysql.main --for 30m --reason "upgrade of the disk"
  paasta smartstack drain mysql.main --wait && systemctl restart mysql
  paasta smartstack undrain mysql.main`,
		Flags: func(f *pflag.FlagSet) {
			f.StringVarP(&reason, "reason", "r", "", "why, for those who look (default: who asked)")
			f.DurationVar(&expires, "for", 0, "end the drain after this time (default: never)")
			wait.add(f)
		},
		Run: func(ctx context.Context, io command.IO, args []string) error {
			dir, service, err := oneService(w, args)
			if err != nil {
				return err
			}
			if err := wait.check(); err != nil {
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
			if !wait.wait {
				return nil
			}
			c, err := w.Config()
			if err != nil {
				return err
			}
			return wait.run(ctx, w, io, service, drainedFor(c.DrainGrace))
		},
	}
}

// undrainCommand removes a drain file.
func undrainCommand(w Wiring) command.Command {
	var wait waitFlags
	return command.Command{
		Use:   "undrain SERVICE [--wait]",
		Short: "End the drain of a service of this host",
		Long: `End the drain of a service of the services directory: it gets traffic again at once.

With --wait it returns once the service is up in HAProxy on this host; 1 if that takes
longer than updown_timeout_s of its registrations, or --timeout.`,
		Example: `  paasta smartstack undrain mysql.main
  systemctl restart mysql && paasta smartstack undrain mysql.main --wait`,
		Flags: wait.add,
		Run: func(ctx context.Context, io command.IO, args []string) error {
			dir, service, err := oneService(w, args)
			if err != nil {
				return err
			}
			if err := wait.check(); err != nil {
				return err
			}
			was, err := nerve.RemoveDrain(dir, service)
			if err != nil {
				return err
			}
			if !was {
				fmt.Fprintf(io.Err, "%s was not draining\n", service)
			} else {
				fmt.Fprintf(io.Err, "%s takes traffic again\n", service)
			}
			return wait.run(ctx, w, io, service, takesTraffic)
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
