package api

import (
	"context"
	"net/http"
	"net/url"
)

func vmPath(vm string) string { return Base + "/vms/" + url.PathEscape(vm) }

func diskPath(vm, disk string) string { return vmPath(vm) + "/disks/" + url.PathEscape(disk) }

// Policy tells how the points of a VM are kept and chained.
func (c *Client) Policy(ctx context.Context, vm string) (p VMPolicy, err error) {
	return p, c.do(ctx, http.MethodGet, vmPath(vm)+"/policy", nil, &p)
}

// SetPolicy replaces a VM's own policy.
func (c *Client) SetPolicy(ctx context.Context, vm string, p Policy) (out VMPolicy, err error) {
	return out, c.do(ctx, http.MethodPut, vmPath(vm)+"/policy", p, &out)
}

// Chain returns the tree of a disk's images.
func (c *Client) Chain(ctx context.Context, vm, disk string) (t Chain, err error) {
	return t, c.do(ctx, http.MethodGet, diskPath(vm, disk)+"/chain", nil, &t)
}

// Merge joins images of a disk.
func (c *Client) Merge(ctx context.Context, vm, disk string, r MergeRequest) (m Merged, err error) {
	return m, c.do(ctx, http.MethodPost, diskPath(vm, disk)+"/merge", r, &m)
}
