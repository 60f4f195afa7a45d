package marathon

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	gomarathon "github.com/gambol99/go-marathon"

	"github.com/gopaasta/paasta/paasta"
)

// Options say where a Marathon is. URLs is required.
type Options struct {
	URLs           []string // its members, e.g. http://m1:8080; any may answer
	User, Password string   // basic auth; "" for none
	Log            *slog.Logger
	HTTP           *http.Client // default: 30s for a call
	// MesosMasters are the addresses, e.g. http://m1:5050, of the Mesos that
	// this Marathon runs on; nil for none. With them TaskLogs works. Credentials
	// in the first one are used for the agents, too.
	MesosMasters []string
}

// A Client calls one Marathon. A member that does not answer, answers 5xx, or
// redirects to a leader that does not take us, is passed over for the next one,
// which is asked first from then on.
type Client struct {
	urls      []*url.URL
	user      string
	password  string
	log       *slog.Logger
	http      *http.Client
	stream    *http.Client           // without a time limit
	good      atomic.Int32           // index of the member that answered last
	leader    atomic.Pointer[string] // origin that a member has named; see follow
	sandboxes *sandboxes             // nil without Mesos
}

// Errors that callers branch on.
var (
	ErrLocked   = errors.New("app is locked by a deployment")
	ErrExists   = errors.New("app exists")
	ErrNotFound = errors.New("not found")
)

// A StatusError is an answer of Marathon other than 2xx.
type StatusError struct {
	Code    int
	Message string // Marathon's own
}

func (e *StatusError) Error() string {
	return fmt.Sprintf("%d %s: %s", e.Code, http.StatusText(e.Code), e.Message)
}

// Is makes a StatusError one of ErrLocked, ErrExists, ErrNotFound.
func (e *StatusError) Is(target error) bool {
	switch target {
	case ErrNotFound:
		return e.Code == http.StatusNotFound
	case ErrExists:
		return e.Code == http.StatusConflict && strings.Contains(e.Message, "already exists")
	case ErrLocked:
		return e.Code == http.StatusConflict && !strings.Contains(e.Message, "already exists")
	}
	return false
}

// New returns a client. It does not call Marathon yet.
func New(o Options) (*Client, error) {
	if len(o.URLs) == 0 {
		return nil, errors.New("marathon: no URL (system config: marathon_servers)")
	}
	c := &Client{user: o.User, password: o.Password, log: o.Log, http: o.HTTP}
	for _, raw := range o.URLs {
		u, err := url.Parse(strings.TrimRight(raw, "/"))
		if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
			return nil, fmt.Errorf("marathon: %q is no URL of a Marathon (want http://HOST:PORT)", raw)
		}
		c.urls = append(c.urls, u)
	}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	if c.http == nil {
		c.http = &http.Client{Timeout: 30 * time.Second, Transport: transport()}
	}
	call := *c.http
	call.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse } // see follow
	stream := call
	stream.Timeout = 0
	c.http, c.stream = &call, &stream
	if len(o.MesosMasters) > 0 {
		var err error
		if c.sandboxes, err = newSandboxes(o.MesosMasters, &call); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func transport() *http.Transport {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.MaxIdleConnsPerHost = 16
	// A member whose host is off must not keep us from asking the next for long.
	t.DialContext = (&net.Dialer{Timeout: 5 * time.Second, KeepAlive: 15 * time.Second}).DialContext
	t.ResponseHeaderTimeout = 30 * time.Second
	return t
}

// A request is one call, before it is known which member gets it.
type request struct {
	method, path string // path with query
	header       http.Header
	body         []byte
}

// do sends a request to the members in turn, beginning with the one that
// answered last, and returns the first answer that is not a failure of its
// member. The caller closes it. A POST goes to no other member once it may have
// been carried out: a kill with scale that is made twice takes twice as many
// from the app's size.
func (c *Client) do(ctx context.Context, hc *http.Client, method, path string, header http.Header, body []byte) (*http.Response, error) {
	q := request{method, path, header, body}
	var errs []error
	start := int(c.good.Load())
	for n := range c.urls {
		i := (start + n) % len(c.urls)
		response, err := c.ask(ctx, hc, c.urls[i], q)
		if err == nil {
			if from := int(c.good.Swap(int32(i))); from != i {
				c.log.Warn("marathon member failed, asking another one first from now on",
					"url", c.urls[from].Redacted(), "next", c.urls[i].Redacted(), "err", errors.Join(errs...))
			}
			return response, nil
		}
		if ctx.Err() != nil {
			return nil, fmt.Errorf("%s %s: %w", method, c.urls[i].Redacted()+path, ctx.Err())
		}
		errs = append(errs, err) // has method and URL
		if method == http.MethodPost && maybeDone(err) {
			break
		}
	}
	return nil, errors.Join(errs...)
}

// ask sends a request to a member, and follows it to the leader where it
// redirects. A member that has no answer of its own is an error: 5xx, or a
// leader that does not take our credentials.
func (c *Client) ask(ctx context.Context, hc *http.Client, member *url.URL, q request) (*http.Response, error) {
	target, err := url.Parse(member.String() + q.path)
	if err != nil {
		return nil, err
	}
	for hop := range maxRedirects + 1 {
		response, err := c.send(ctx, hc, target, q)
		if err != nil {
			return nil, err
		}
		switch code := response.StatusCode; {
		case redirects(response):
			if target, err = c.follow(ctx, hc, member, response); err != nil {
				return nil, fmt.Errorf("%s %s: %w", q.method, response.Request.URL, err)
			}
		case code >= 500, hop > 0 && (code == http.StatusUnauthorized || code == http.StatusForbidden):
			return nil, fmt.Errorf("%s %s: %w", q.method, response.Request.URL, failure(response))
		default:
			return response, nil
		}
	}
	return nil, fmt.Errorf("%s %s: %w: more than %d times", q.method, member.Redacted()+q.path, errRedirect, maxRedirects)
}

// send sends a request to one address, with our credentials or the address's
// own, which stay out of messages.
func (c *Client) send(ctx context.Context, hc *http.Client, target *url.URL, q request) (*http.Response, error) {
	plain := *target
	plain.User = nil
	r, err := http.NewRequestWithContext(ctx, q.method, plain.String(), bytes.NewReader(q.body))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Accept", "application/json")
	if len(q.body) > 0 {
		r.Header.Set("Content-Type", "application/json")
	}
	maps.Copy(r.Header, q.header)
	if password, ok := target.User.Password(); ok {
		r.SetBasicAuth(target.User.Username(), password)
	} else if c.user != "" {
		r.SetBasicAuth(c.user, c.password)
	}
	response, err := hc.Do(r)
	if err == nil && c.member(target) != nil {
		if leader := leaderOf(response); leader != "" {
			c.leader.Store(&leader)
		}
	}
	return response, err
}

// maybeDone tells whether a request that failed may have been carried out. It
// was not when no connection came about, a redirect led nowhere, or a member
// says that it has not found its leader.
func maybeDone(err error) bool {
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "dial" || errors.Is(err, errRedirect) {
		return false
	}
	if status, ok := errors.AsType[*StatusError](err); ok {
		return status.Code >= 500 && !slices.ContainsFunc(noLeader, func(said string) bool { return strings.Contains(status.Message, said) })
	}
	return true
}

// noLeader are the words of a standby that has passed nothing on, with 502 or,
// up to Marathon 1.7, 503.
var noLeader = []string{"Could not determine the current leader", "Detected proxying loop", "Connection to leader refused"}

// failure reads an answer that is not 2xx, and closes it.
func failure(r *http.Response) *StatusError {
	defer r.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(r.Body, 64<<10)) // what came is shown
	var said struct {
		Message string          `json:"message"`
		Details json.RawMessage `json:"details"`
	}
	message := strings.TrimSpace(string(text))
	if json.Unmarshal(text, &said) == nil && said.Message != "" {
		message = said.Message
		if len(said.Details) > 0 {
			message += " " + string(said.Details)
		}
	}
	return &StatusError{Code: r.StatusCode, Message: message}
}

// call makes one call and decodes its answer into out, unless that is nil.
func (c *Client) call(ctx context.Context, method, path string, in, out any) error {
	var body []byte
	if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			return err
		}
	}
	response, err := c.do(ctx, c.http, method, path, nil, body)
	if err != nil {
		return err
	}
	if response.StatusCode/100 != 2 {
		return fmt.Errorf("%s %s: %w", method, response.Request.URL, failure(response))
	}
	defer response.Body.Close()
	if out == nil {
		_, err = io.Copy(io.Discard, response.Body)
	} else {
		err = json.NewDecoder(response.Body).Decode(out)
	}
	if err != nil {
		return fmt.Errorf("%s %s: read answer: %w", method, response.Request.URL, err)
	}
	return nil
}

// Ping asks whether a Marathon answers.
func (c *Client) Ping(ctx context.Context) error {
	response, err := c.do(ctx, c.http, http.MethodGet, "/ping", http.Header{"Accept": {"*/*"}}, nil)
	if err != nil {
		return fmt.Errorf("ping marathon: %w", err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("ping marathon: GET %s: %w", response.Request.URL, failure(response))
	}
	return nil
}

// Apps lists all apps with their tasks, ours and others'.
func (c *Client) Apps(ctx context.Context) ([]App, error) {
	apps, err := c.apps(ctx, "")
	if err != nil {
		return nil, fmt.Errorf("list apps: %w", err)
	}
	return apps, nil
}

// AppsOf lists the apps of one instance with their tasks: those whose id parses
// to it.
func (c *Client) AppsOf(ctx context.Context, id paasta.InstanceID) ([]App, error) {
	// Marathon's filter is a substring; it only spares us the rest.
	part := strings.ReplaceAll("/"+id.String()+".", "_", "--")
	apps, err := c.apps(ctx, "&id="+url.QueryEscape(part))
	if err != nil {
		return nil, fmt.Errorf("list apps of %s: %w", id, err)
	}
	ours := apps[:0]
	for _, a := range apps {
		if got, err := paasta.ParseAppID(a.ID); err == nil && got.InstanceID == id {
			ours = append(ours, a)
		}
	}
	return ours, nil
}

func (c *Client) apps(ctx context.Context, filter string) ([]App, error) {
	var answer struct{ Apps []json.RawMessage }
	if err := c.call(ctx, http.MethodGet, "/v2/apps?embed=apps.tasks&embed=apps.deployments&embed=apps.lastTaskFailure"+filter, nil, &answer); err != nil {
		return nil, err
	}
	apps := make([]App, 0, len(answer.Apps))
	for _, text := range answer.Apps {
		var app gomarathon.Application
		if err := json.Unmarshal(text, &app); err != nil {
			if _, ours := paasta.ParseAppID(app.ID); ours == nil {
				return nil, fmt.Errorf("read app %s: %w", app.ID, err)
			}
			c.log.Debug("left out an app of others, which go-marathon cannot read", "app", app.ID, "err", err)
			continue
		}
		apps = append(apps, appOf(app))
	}
	return apps, nil
}

// Create makes a new app. One that exists already is ErrExists.
func (c *Client) Create(ctx context.Context, d Definition) error {
	if err := c.call(ctx, http.MethodPost, "/v2/apps", d, nil); err != nil {
		return fmt.Errorf("create app %s: %w", d.ID, err)
	}
	return nil
}

// Scale sets the size of an app. Without force an app that is being changed is
// ErrLocked; with it, that change is cancelled.
func (c *Client) Scale(ctx context.Context, appID string, size int, force bool) error {
	err := c.call(ctx, http.MethodPut, appPath(appID)+"?force="+strconv.FormatBool(force), map[string]int{"instances": size}, nil)
	if err != nil {
		return fmt.Errorf("scale app %s to %d: %w", appID, size, err)
	}
	return nil
}

// KillTasks kills tasks. With scale, the sizes of their apps go down by as
// many; without, Marathon starts others. Ids that are gone count as killed.
func (c *Client) KillTasks(ctx context.Context, ids []string, scale, force bool) error {
	query := fmt.Sprintf("?scale=%t&force=%t", scale, force)
	err := c.call(ctx, http.MethodPost, "/v2/tasks/delete"+query, map[string][]string{"ids": ids}, nil)
	if err != nil {
		return fmt.Errorf("kill tasks %s: %w", strings.Join(ids, ", "), err)
	}
	return nil
}

// DeleteApp deletes an app and kills what it runs. One that is gone is
// ErrNotFound.
func (c *Client) DeleteApp(ctx context.Context, appID string) error {
	err := c.call(ctx, http.MethodDelete, appPath(appID)+"?force=true", nil, nil)
	if err != nil {
		return fmt.Errorf("delete app %s: %w", appID, err)
	}
	return nil
}

func appPath(id string) string { return "/v2/apps/" + strings.TrimPrefix(id, "/") }

// Queue tells what waits to be started, and why.
func (c *Client) Queue(ctx context.Context) ([]QueueItem, error) {
	var answer struct{ Queue []wireQueueItem }
	if err := c.call(ctx, http.MethodGet, "/v2/queue", nil, &answer); err != nil {
		return nil, fmt.Errorf("read launch queue: %w", err)
	}
	items := make([]QueueItem, len(answer.Queue))
	for i, q := range answer.Queue {
		items[i] = q.item()
	}
	return items, nil
}
