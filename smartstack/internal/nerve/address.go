package nerve

import (
	"net"
	"strconv"

	"github.com/gopaasta/paasta/paasta/registry"
)

func address(e registry.Entry) string { return net.JoinHostPort(e.Host, strconv.Itoa(e.Port)) }
