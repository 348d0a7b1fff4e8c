package api

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

func pointPath(ref string) string { return Base + "/points/" + url.PathEscape(ref) }

// RemovePoint deletes the point of an id: into the trash or, with now, for good.
func (c *Client) RemovePoint(ctx context.Context, id string, now bool) (r Removed, err error) {
	return r, c.do(ctx, http.MethodDelete, pointPath(id)+"?now="+strconv.FormatBool(now), nil, &r)
}

// UndeletePoint brings the point of an id back from the trash.
func (c *Client) UndeletePoint(ctx context.Context, id string) (p Point, err error) {
	return p, c.do(ctx, http.MethodPost, pointPath(id)+"/undelete", nil, &p)
}

// Trash lists the deleted points that can be undeleted.
func (c *Client) Trash(ctx context.Context) (l []Point, err error) {
	return l, c.do(ctx, http.MethodGet, Base+"/trash", nil, &l)
}

// HoldPoint keeps a point until it is released.
func (c *Client) HoldPoint(ctx context.Context, ref, reason string) (p Point, err error) {
	return p, c.do(ctx, http.MethodPost, pointPath(ref)+"/hold", HoldRequest{Reason: reason}, &p)
}

// ReleasePoint ends a hold.
func (c *Client) ReleasePoint(ctx context.Context, ref string) (p Point, err error) {
	return p, c.do(ctx, http.MethodDelete, pointPath(ref)+"/hold", nil, &p)
}

// LockPoint keeps a point until a date that can only be moved on.
func (c *Client) LockPoint(ctx context.Context, ref string, until time.Time) (p Point, err error) {
	return p, c.do(ctx, http.MethodPost, pointPath(ref)+"/lock", LockRequest{Until: until}, &p)
}

// Usage tells what a reference takes; the store when it is empty.
func (c *Client) Usage(ctx context.Context, ref string) (u UsageReport, err error) {
	return u, c.do(ctx, http.MethodGet, Base+"/usage?ref="+url.QueryEscape(ref), nil, &u)
}
