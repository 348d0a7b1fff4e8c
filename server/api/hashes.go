package api

import (
	"context"
	"io"
	"net/http"
	"net/url"
)

// Hashes opens the stream of the content hashes of a disk's blocks
// (internal/hashstream), which the caller reads and closes. ctx ends it.
func (c *Client) Hashes(ctx context.Context, ref, disk string) (io.ReadCloser, error) {
	req, err := c.request(ctx, http.MethodGet, pointPath(ref)+"/disks/"+url.PathEscape(disk)+"/hashes", nil)
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			return nil, cause
		}
		return nil, &UnreachableError{Target: c.target, Err: unwrapURL(err)}
	}
	if resp.StatusCode/100 != 2 {
		defer resp.Body.Close()
		return nil, readError(resp)
	}
	return resp.Body, nil
}
