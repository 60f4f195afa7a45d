package api

import (
	"log/slog"

	"github.com/gopaasta/paasta/paasta/marathon"
	"github.com/gopaasta/paasta/paasta/sysconfig"
)

// frameworks makes a client for each configured Marathon.
func frameworks(servers []sysconfig.MarathonServer, mesos []string, log *slog.Logger) ([]Marathon, error) {
	var all []Marathon
	for _, server := range servers {
		c, err := marathon.New(marathon.Options{URLs: server.URL, User: server.User, Password: server.Password, MesosMasters: mesos, Log: log})
		if err != nil {
			return nil, err
		}
		all = append(all, c)
	}
	return all, nil
}
