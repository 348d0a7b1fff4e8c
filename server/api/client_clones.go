package api

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
)

func clonePath(id string) string { return Base + "/clones/" + url.PathEscape(id) }

// CreateClone makes a clone of a point's disks; it survives a power cut.
func (c *Client) CreateClone(ctx context.Context, r CloneRequest) (x Clone, err error) {
	return x, c.do(ctx, http.MethodPost, Base+"/clones", r, &x)
}

// Clones lists the clones there are, oldest first.
func (c *Client) Clones(ctx context.Context) (l []Clone, err error) {
	return l, c.do(ctx, http.MethodGet, Base+"/clones", nil, &l)
}

// Clone returns one clone, for a week after its end too.
func (c *Client) Clone(ctx context.Context, id string) (x Clone, err error) {
	return x, c.do(ctx, http.MethodGet, clonePath(id), nil, &x)
}

// ResumeClone opens a stale clone again, as at its last flush, under new names.
func (c *Client) ResumeClone(ctx context.Context, id string) (x Clone, err error) {
	return x, c.do(ctx, http.MethodPost, clonePath(id)+"/resume", nil, &x)
}

// SealClone makes a clone a recovery point and ends it. It is refused while
// clients are connected, unless force says to disconnect them. A sealed clone
// gives the same receipt again.
func (c *Client) SealClone(ctx context.Context, id string, force bool) (r Receipt, err error) {
	return r, c.do(ctx, http.MethodPost, clonePath(id)+"/seal?force="+strconv.FormatBool(force), nil, &r)
}

// DiscardClone gives a clone up, with all that was written to it. It is refused
// while clients are connected, unless force says to disconnect them.
func (c *Client) DiscardClone(ctx context.Context, id string, force bool) (x Clone, err error) {
	return x, c.do(ctx, http.MethodDelete, clonePath(id)+"?force="+strconv.FormatBool(force), nil, &x)
}
