package api

import (
	"context"
	"net/http"
)

// SFTPConnections lists the clients connected over SFTP.
func (c *Client) SFTPConnections(ctx context.Context) (l []SFTPConnection, err error) {
	return l, c.do(ctx, http.MethodGet, Base+"/sftp/connections", nil, &l)
}
