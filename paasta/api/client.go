package api

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/gopaasta/paasta/paasta"
	"github.com/gopaasta/paasta/paasta/command"
)

// answerWithin bounds a request but a follow of logs. The server bounds each
// part that it asks by less.
const answerWithin = 20 * time.Second

// maxAnswer bounds the body of one answer; a status with 10,000 tasks is 3 MB.
const maxAnswer = 64 << 20

// ClientOptions say where an API is and who asks. URL is required.
type ClientOptions struct {
	URL           string // e.g. http://127.0.0.1:5054
	Token         string // bearer token
	CA, Cert, Key string // PEM files
}

// A Client calls the API of one cluster. Its errors name method and URL; an
// *Error answer is wrapped with its hint.
type Client struct {
	base  string
	token string
	http  *http.Client
}

// An AnswerError is an answer that is not 2xx. Message and hint are the
// server's.
type AnswerError struct {
	Method, URL string
	Code        int // HTTP status
	Answer      Error
}

func (e *AnswerError) Error() string {
	if e.Answer.Message == "" {
		return fmt.Sprintf("%s %s: %d %s", e.Method, e.URL, e.Code, http.StatusText(e.Code))
	}
	return fmt.Sprintf("%s %s: %s", e.Method, e.URL, e.Answer.Message)
}

// IsNotFound tells whether the API answered that there is no such service or
// instance.
func IsNotFound(err error) bool {
	var a *AnswerError
	return errors.As(err, &a) && a.Code == http.StatusNotFound
}

// NewClient returns a client. It fails when a PEM file cannot be used.
func NewClient(o ClientOptions) (*Client, error) {
	u, err := url.Parse(o.URL)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return nil, fmt.Errorf("%q is no URL of an API: want http://HOST:PORT or https://HOST:PORT", o.URL)
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.DialContext = (&net.Dialer{Timeout: 5 * time.Second}).DialContext
	if o.CA != "" || o.Cert != "" || o.Key != "" {
		c, err := clientTLS(o)
		if err != nil {
			return nil, err
		}
		transport.TLSClientConfig = c
	}
	return &Client{
		base:  strings.TrimSuffix(o.URL, "/"),
		token: o.Token,
		http: &http.Client{
			Transport: transport,
			// Going on elsewhere would take the token there.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}, nil
}

func clientTLS(o ClientOptions) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if o.CA != "" {
		pem, err := os.ReadFile(o.CA)
		if err != nil {
			return nil, fmt.Errorf("read the API's CA: %w", err)
		}
		if c.RootCAs, err = x509.SystemCertPool(); err != nil {
			c.RootCAs = x509.NewCertPool() // no system pool here: only ours
		}
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s: no PEM certificate in it", o.CA)
		}
	}
	if o.Cert != "" || o.Key != "" {
		pair, err := tls.LoadX509KeyPair(o.Cert, o.Key)
		if err != nil {
			return nil, fmt.Errorf("read the client certificate %q with key %q: %w", o.Cert, o.Key, err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}

// URL is where the API is.
func (c *Client) URL() string { return c.base }

// Services lists the services with instances in this cluster.
func (c *Client) Services(ctx context.Context) ([]Service, error) {
	var all []Service
	return all, c.get(ctx, "/v1/services", &all)
}

// Status returns one instance of a service, or all when instance is "".
func (c *Client) Status(ctx context.Context, service, instance string) ([]InstanceStatus, error) {
	if instance == "" {
		var all []InstanceStatus
		return all, c.get(ctx, "/v1/services/"+url.PathEscape(service)+"/status", &all)
	}
	var one InstanceStatus
	if err := c.get(ctx, "/v1/services/"+url.PathEscape(service)+"/"+url.PathEscape(instance)+"/status", &one); err != nil {
		return nil, err
	}
	return []InstanceStatus{one}, nil
}

// Deployments returns what deployd read from the service's tags.
func (c *Client) Deployments(ctx context.Context, service string) (Deployments, error) {
	var d Deployments
	return d, c.get(ctx, "/v1/services/"+url.PathEscape(service)+"/deployments", &d)
}

// Kick makes deployd look at the service's tags and config now. It returns once
// the hint is stored, not once it is acted on.
func (c *Client) Kick(ctx context.Context, service string) error {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	body, err := c.do(ctx, http.MethodPost, "/v1/services/"+url.PathEscape(service)+"/kick")
	if err != nil {
		return err
	}
	return body.Close()
}

// A LogQuery selects log lines. Service is required.
type LogQuery struct {
	Service    string
	Instances  []string
	Components []string // default: deploy, stdout, stderr, marathon
	Lines      int      // latest lines a source; default 100
	Follow     bool
	From, To   time.Time
}

func (q LogQuery) values() url.Values {
	v := url.Values{}
	set := func(name string, list []string) {
		if len(list) > 0 {
			v.Set(name, strings.Join(list, ","))
		}
	}
	set("instances", q.Instances)
	set("components", q.Components)
	if q.Lines > 0 {
		v.Set("lines", strconv.Itoa(q.Lines))
	}
	if q.Follow {
		v.Set("follow", "true")
	}
	if !q.From.IsZero() {
		v.Set("from", q.From.UTC().Format(time.RFC3339Nano))
	}
	if !q.To.IsZero() {
		v.Set("to", q.To.UTC().Format(time.RFC3339Nano))
	}
	return v
}

// Logs calls each with every line that the query selects, oldest first, and
// with Follow goes on until ctx ends. What each returns ends it too.
func (c *Client) Logs(ctx context.Context, q LogQuery, each func(paasta.LogLine) error) error {
	if !q.Follow {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, answerWithin)
		defer cancel()
	}
	path := "/v1/services/" + url.PathEscape(q.Service) + "/logs"
	if v := q.values().Encode(); v != "" {
		path += "?" + v
	}
	body, err := c.do(ctx, http.MethodGet, path)
	if err != nil {
		return err
	}
	defer body.Close()
	lines := bufio.NewScanner(body)
	lines.Buffer(make([]byte, 64<<10), 4<<20)
	for lines.Scan() {
		if len(bytes.TrimSpace(lines.Bytes())) == 0 {
			continue // keeps the connection alive
		}
		var l paasta.LogLine
		if err := json.Unmarshal(lines.Bytes(), &l); err != nil {
			return fmt.Errorf("GET %s%s: read a log line: %w", c.base, path, err)
		}
		if err := each(l); err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("GET %s%s: %w", c.base, path, err)
	}
	return nil
}

// get reads a JSON answer into v.
func (c *Client) get(ctx context.Context, path string, v any) error {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	body, err := c.do(ctx, http.MethodGet, path)
	if err != nil {
		return err
	}
	defer body.Close()
	if err := json.NewDecoder(io.LimitReader(body, maxAnswer)).Decode(v); err != nil {
		return fmt.Errorf("GET %s%s: read the answer: %w", c.base, path, err)
	}
	return nil
}

// do sends a request and returns the body of a 2xx answer.
func (c *Client) do(ctx context.Context, method, path string) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json, application/x-ndjson")
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.explain(method, path, err)
	}
	if resp.StatusCode/100 == 2 {
		return resp.Body, nil
	}
	defer resp.Body.Close()
	answer := &AnswerError{Method: method, URL: c.base + path, Code: resp.StatusCode}
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10)) // the status says enough
	if json.Unmarshal(text, &answer.Answer) != nil || answer.Answer.Message == "" {
		answer.Answer.Message = strings.TrimSpace(resp.Status + ": " + firstLine(text))
	}
	if answer.Answer.Hint != "" {
		return nil, command.WithHint(answer, answer.Answer.Hint)
	}
	return nil, answer
}

// explain says what a request that got no answer may mean.
func (c *Client) explain(method, path string, err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err // it would say method and URL a second time, and in another way
	}
	err = fmt.Errorf("%s %s%s: %w", method, c.base, path, err)
	var authority x509.UnknownAuthorityError
	var dns *net.DNSError
	var op *net.OpError
	if errors.As(err, &op) && op.Op != "dial" {
		// Our own port number would make each try's error another one.
		err = fmt.Errorf("%s %s%s: %s: %w", method, c.base, path, op.Op, op.Err)
	}
	switch {
	case errors.As(err, &authority):
		return command.WithHint(err, "set api_ca in the system config to the CA that signed the API's certificate")
	case errors.As(err, &dns):
		return command.WithHint(err, "check api_endpoints in the system config: this host name does not resolve")
	case op != nil, errors.Is(err, context.DeadlineExceeded):
		return command.WithHint(err, "is 'paasta api' running there? Start it, or correct api_endpoints in the system config")
	}
	return err
}

func firstLine(text []byte) string {
	line, _, _ := strings.Cut(strings.TrimSpace(string(text)), "\n")
	return line[:min(len(line), 200)]
}
