package api

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// PlanPrune tells what a prune would do; it changes nothing.
func (c *Client) PlanPrune(ctx context.Context, r PruneRequest) (p PruneReport, err error) {
	return p, c.do(ctx, http.MethodPost, Base+"/prune/plan", r, &p)
}

// Prune starts a prune.
func (c *Client) Prune(ctx context.Context, r PruneRequest) (j Job, err error) {
	return j, c.do(ctx, http.MethodPost, Base+"/prune", r, &j)
}

// GC starts a garbage collection.
func (c *Client) GC(ctx context.Context, r GCRequest) (j Job, err error) {
	return j, c.do(ctx, http.MethodPost, Base+"/gc", r, &j)
}

// GCStatus tells where garbage collection stands.
func (c *Client) GCStatus(ctx context.Context) (s GCStatus, err error) {
	return s, c.do(ctx, http.MethodGet, Base+"/gc", nil, &s)
}

// Compress starts the compression of what was stored without.
func (c *Client) Compress(ctx context.Context, r CompressRequest) (j Job, err error) {
	return j, c.do(ctx, http.MethodPost, Base+"/compress", r, &j)
}

// CompressStatus tells what waits for compression.
func (c *Client) CompressStatus(ctx context.Context) (s CompressStatus, err error) {
	return s, c.do(ctx, http.MethodGet, Base+"/compress", nil, &s)
}

// Verify starts a verification.
func (c *Client) Verify(ctx context.Context, r VerifyRequest) (j Job, err error) {
	return j, c.do(ctx, http.MethodPost, Base+"/verify", r, &j)
}

// ScrubStatus tells how old the verification of the store is.
func (c *Client) ScrubStatus(ctx context.Context) (s ScrubStatus, err error) {
	return s, c.do(ctx, http.MethodGet, Base+"/verify", nil, &s)
}

// Damage lists the damage that is known and the images it affects.
func (c *Client) Damage(ctx context.Context) (d DamageReport, err error) {
	return d, c.do(ctx, http.MethodGet, Base+"/damage", nil, &d)
}

// Jobs lists work under way and the latest that ended, newest first.
func (c *Client) Jobs(ctx context.Context) (l []Job, err error) {
	return l, c.do(ctx, http.MethodGet, Base+"/jobs", nil, &l)
}

// Job returns a job, as soon as it has ended or when wait, at most a minute, is
// over.
func (c *Client) Job(ctx context.Context, id string, wait time.Duration) (j Job, err error) {
	seconds := strconv.FormatInt(int64(wait/time.Second), 10)
	return j, c.do(ctx, http.MethodGet, Base+"/jobs/"+url.PathEscape(id)+"?wait="+seconds, nil, &j)
}

// CancelJob stops a job at its next safe place.
func (c *Client) CancelJob(ctx context.Context, id string) (j Job, err error) {
	return j, c.do(ctx, http.MethodDelete, Base+"/jobs/"+url.PathEscape(id), nil, &j)
}
