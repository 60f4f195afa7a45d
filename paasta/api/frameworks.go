package api

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/gopaasta/paasta/paasta/marathon"
	"github.com/gopaasta/paasta/paasta/sysconfig"
)

// errNoOutput says that a Marathon keeps no output of tasks.
var errNoOutput = errors.New("this Marathon does not hand out the output of its tasks")

// A framework is a Marathon as the API asks it.
type framework struct{ *marathon.Client }

// frameworks makes a client for each configured Marathon.
func frameworks(servers []sysconfig.MarathonServer, log *slog.Logger) ([]Marathon, error) {
	var all []Marathon
	for _, server := range servers {
		c, err := marathon.New(marathon.Options{URLs: server.URL, User: server.User, Password: server.Password, Log: log})
		if err != nil {
			return nil, err
		}
		all = append(all, framework{c})
	}
	return all, nil
}

// TaskLogs implements Marathon.
func (f framework) TaskLogs(ctx context.Context, task string, tail int, follow bool, each func(stream string, at time.Time, text string) error) error {
	return errNoOutput
}
