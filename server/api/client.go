package api

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

const (
	// answerBytesMax bounds what is read of an answer: a listing of a million
	// points is some 300 MB.
	answerBytesMax = 1 << 30
	// errorBytesMax bounds what is read of an error.
	errorBytesMax = 64 << 10
	// dialTimeout is long for a local socket and enough for any network.
	dialTimeout = 10 * time.Second
)

// Client speaks to one server. Its methods return *Error for refusals and
// *UnreachableError when no server answers. It is safe for concurrent use.
type Client struct {
	http   *http.Client
	base   string // scheme and host
	target string // what the user named
	token  string
}

// ClientOptions are for servers that are reached over TCP.
type ClientOptions struct {
	Token string      // bearer token; empty: none
	TLS   *tls.Config // nil: the system's roots
}

// NewClient makes a client of the server at target: a unix socket's path, or an
// http or https URL. It does not connect.
func NewClient(target string, o ClientOptions) (*Client, error) {
	c := &Client{target: target, token: o.Token}
	dialer := &net.Dialer{Timeout: dialTimeout}
	transport := &http.Transport{DialContext: dialer.DialContext, TLSClientConfig: o.TLS, MaxIdleConnsPerHost: 4}
	if u, err := url.Parse(target); err == nil && (u.Scheme == "http" || u.Scheme == "https") {
		if u.Host == "" {
			return nil, fmt.Errorf("API address %q names no host", target)
		}
		c.base = u.Scheme + "://" + u.Host
	} else if err == nil && u.Scheme != "" && u.Scheme != "unix" && strings.Contains(target, "://") {
		return nil, fmt.Errorf("API address %q: want a socket's path or an http or https URL", target)
	} else {
		path := strings.TrimPrefix(target, "unix://")
		c.base = "http://strongroom"
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", path)
		}
	}
	c.http = &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse
	}}
	return c, nil
}

// Close gives idle connections back.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Local reports whether the server is reached over a unix socket, and therefore
// on this host.
func (c *Client) Local() bool { return c.base == "http://strongroom" }

// Health asks whether the server works. A server that answers but is not
// healthy gives an *Error.
func (c *Client) Health(ctx context.Context) (h Health, err error) {
	return h, c.do(ctx, http.MethodGet, "/healthz", nil, &h)
}

// Info returns what a client must know of the server.
func (c *Client) Info(ctx context.Context) (i Info, err error) {
	return i, c.do(ctx, http.MethodGet, Base+"/info", nil, &i)
}

// StartBackup opens a backup.
func (c *Client) StartBackup(ctx context.Context, r BackupRequest) (b Backup, err error) {
	return b, c.do(ctx, http.MethodPost, Base+"/backups", r, &b)
}

// Backups lists the sessions the server knows.
func (c *Client) Backups(ctx context.Context) (l []Backup, err error) {
	return l, c.do(ctx, http.MethodGet, Base+"/backups", nil, &l)
}

// Backup returns one session.
func (c *Client) Backup(ctx context.Context, session string) (b Backup, err error) {
	return b, c.do(ctx, http.MethodGet, Base+"/backups/"+url.PathEscape(session), nil, &b)
}

// Commit publishes a session as a recovery point. A commit of a committed
// session returns the same receipt again.
func (c *Client) Commit(ctx context.Context, session string) (r Receipt, err error) {
	return r, c.do(ctx, http.MethodPost, Base+"/backups/"+url.PathEscape(session)+"/commit", nil, &r)
}

// Abort gives a session up.
func (c *Client) Abort(ctx context.Context, session string) (b Backup, err error) {
	return b, c.do(ctx, http.MethodPost, Base+"/backups/"+url.PathEscape(session)+"/abort", nil, &b)
}

// VMs lists the machines that have points.
func (c *Client) VMs(ctx context.Context) (l []VM, err error) {
	return l, c.do(ctx, http.MethodGet, Base+"/vms", nil, &l)
}

// Points lists points, oldest first; of all VMs when vm is empty.
func (c *Client) Points(ctx context.Context, vm string) (l []Point, err error) {
	return l, c.do(ctx, http.MethodGet, Base+"/points?vm="+url.QueryEscape(vm), nil, &l)
}

// Point resolves a reference.
func (c *Client) Point(ctx context.Context, ref string) (p Point, err error) {
	return p, c.do(ctx, http.MethodGet, Base+"/points/"+url.PathEscape(ref), nil, &p)
}

// Blob returns the bytes of a point's blob.
func (c *Client) Blob(ctx context.Context, id, name string) (data []byte, err error) {
	return data, c.do(ctx, http.MethodGet, Base+"/points/"+url.PathEscape(id)+"/blobs/"+url.PathEscape(name), nil, &data)
}

// Stats returns the figures of the store.
func (c *Client) Stats(ctx context.Context) (s Stats, err error) {
	return s, c.do(ctx, http.MethodGet, Base+"/stats", nil, &s)
}

// do sends a request and reads the answer: into out as JSON, or whole when out
// is a *[]byte.
func (c *Client) do(ctx context.Context, method, path string, in, out any) error {
	req, err := c.request(ctx, method, path, in)
	if err != nil {
		return err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			return cause
		}
		return &UnreachableError{Target: c.target, Err: unwrapURL(err)}
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		return readError(resp)
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, answerBytesMax))
	if err != nil {
		return fmt.Errorf("the answer of %s broke off: %w", c.target, err)
	}
	if raw, ok := out.(*[]byte); ok {
		*raw = data
		return nil
	}
	if err := json.Unmarshal(data, out); err != nil {
		return fmt.Errorf("%s answered something that is not Strongroom's API: %w", c.target, err)
	}
	return nil
}

func (c *Client) request(ctx context.Context, method, path string, in any) (*http.Request, error) {
	var body io.Reader
	if in != nil {
		data, err := json.Marshal(in)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(data)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, body)
	if err != nil {
		return nil, err
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	return req, nil
}

// unwrapURL drops the method and the URL, which mean nothing for a socket.
func unwrapURL(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

func readError(resp *http.Response) error {
	e := &Error{Status: resp.StatusCode}
	data, err := io.ReadAll(io.LimitReader(resp.Body, errorBytesMax))
	if err == nil && json.Unmarshal(data, e) != nil {
		e.Message = ""
	}
	return e
}
