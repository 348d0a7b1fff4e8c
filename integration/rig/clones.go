package rig

import (
	"context"

	"github.com/strongroom-backup/strongroom/server/api"
)

// CreateClone runs clone create; flags are added to the command.
func (s *Server) CreateClone(ctx context.Context, ref string, flags ...string) (x api.Clone, err error) {
	return x, s.JSON(ctx, &x, append([]string{"clone", "create", ref}, flags...)...)
}

// Clone runs clone show.
func (s *Server) Clone(ctx context.Context, id string) (x api.Clone, err error) {
	return x, s.JSON(ctx, &x, "clone", "show", id)
}

// Clones runs clone list.
func (s *Server) Clones(ctx context.Context) (l []api.Clone, err error) {
	return l, s.JSON(ctx, &l, "clone", "list")
}

// ResumeClone runs clone resume.
func (s *Server) ResumeClone(ctx context.Context, id string) (x api.Clone, err error) {
	return x, s.JSON(ctx, &x, "clone", "resume", id)
}

// SealClone runs clone seal.
func (s *Server) SealClone(ctx context.Context, id string, flags ...string) (r api.Receipt, err error) {
	return r, s.JSON(ctx, &r, append([]string{"clone", "seal", id}, flags...)...)
}

// DiscardClone runs clone discard.
func (s *Server) DiscardClone(ctx context.Context, id string, flags ...string) (x api.Clone, err error) {
	return x, s.JSON(ctx, &x, append([]string{"clone", "discard", id, "--yes"}, flags...)...)
}
