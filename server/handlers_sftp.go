package server

import (
	"net/http"

	"github.com/strongroom-backup/strongroom/server/api"
)

func (s *Server) getSFTPConnections(http.ResponseWriter, *http.Request) (any, error) {
	return []api.SFTPConnection{}, nil
}
