package api

import (
	"context"
	"time"

	"github.com/gopaasta/paasta/paasta"
)

// ClientOptions say where an API is and who asks. URL is required.
type ClientOptions struct {
	URL           string // e.g. http://127.0.0.1:5054
	Token         string // bearer token
	CA, Cert, Key string // PEM files
}

// A Client calls the API of one cluster. Its errors name method and URL; an
// *Error answer is wrapped with its hint.
type Client struct{}

// NewClient returns a client. It fails when a PEM file cannot be used.
func NewClient(o ClientOptions) (*Client, error) { panic("to be written") }

// Services lists the services with instances in this cluster.
func (c *Client) Services(ctx context.Context) ([]Service, error) { panic("to be written") }

// Status returns one instance of a service, or all when instance is "".
func (c *Client) Status(ctx context.Context, service, instance string) ([]InstanceStatus, error) {
	panic("to be written")
}

// Kick makes deployd look at the service's tags and config now. It returns once
// the hint is stored, not once it is acted on.
func (c *Client) Kick(ctx context.Context, service string) error { panic("to be written") }

// A LogQuery selects log lines. Service is required.
type LogQuery struct {
	Service    string
	Instances  []string
	Components []string // default: deploy, stdout, stderr, marathon
	Lines      int      // latest lines a source; default 100
	Follow     bool
	From, To   time.Time
}

// Logs calls each with every line that the query selects, oldest first, and
// with Follow goes on until ctx ends.
func (c *Client) Logs(ctx context.Context, q LogQuery, each func(paasta.LogLine) error) error {
	panic("to be written")
}
