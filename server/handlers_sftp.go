package server

import (
	"net/http"

	"github.com/strongroom-backup/strongroom/server/api"
)

var errSFTPOff = &api.Error{Status: http.StatusConflict, Message: "SFTP is off", Hint: "set sftp.listen in the server's configuration"}

func (s *Server) getSFTPConnections(http.ResponseWriter, *http.Request) (any, error) {
	if s.sftp == nil {
		return nil, errSFTPOff
	}
	list := []api.SFTPConnection{}
	for _, c := range s.sftp.Connections() {
		list = append(list, connection(c))
	}
	return list, nil
}
