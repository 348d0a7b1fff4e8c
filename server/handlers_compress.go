package server

import (
	"context"
	"net/http"

	"github.com/strongroom-backup/strongroom/maintenance"
	"github.com/strongroom-backup/strongroom/server/api"
)

func (s *Server) getCompress(http.ResponseWriter, *http.Request) (any, error) {
	running, last := s.jobs.ofKind(maintenance.Compress)
	return api.CompressStatus{Running: jobOrNil(running), Last: jobOrNil(last), WaitingBytes: s.engines.blocks.Stats().LaterBytes}, nil
}

func (s *Server) postCompress(_ http.ResponseWriter, r *http.Request) (any, error) {
	var q api.CompressRequest
	if err := decode(r, &q); err != nil {
		return nil, err
	}
	return s.startJob(maintenance.Compress, func(ctx context.Context) error {
		_, err := s.upkeep.Compress(ctx, maintenance.CompressOptions{})
		return err
	})
}
