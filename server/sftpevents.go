package server

import (
	"log/slog"
	"time"

	"github.com/strongroom-backup/strongroom/files"
	"github.com/strongroom-backup/strongroom/server/api"
	"github.com/strongroom-backup/strongroom/sftp"
	"github.com/strongroom-backup/strongroom/volume"
)

// sftpEvents turns what the SFTP server tells into log lines. What is refused to
// clients is theirs to provoke, so it is limited.
func (s *Server) sftpEvents() sftp.Events {
	var logins, failed, refused, requests, accepts burst
	return sftp.Events{
		Login: func(p sftp.Peer) {
			s.some(&logins, slog.LevelInfo, "SFTP client logged in", peerAttrs(p)...)
		},
		LoginFailed: func(p sftp.Peer, err error) {
			s.some(&failed, slog.LevelWarn, "SFTP login failed", append(peerAttrs(p), keyError, err)...)
		},
		End: func(e sftp.EndEvent) {
			attrs := append(peerAttrs(e.Peer), "read_bytes", e.Read, "written_bytes", e.Written, keyDuration, e.Duration.Round(time.Millisecond))
			if e.Reason != nil {
				attrs = append(attrs, keyReason, e.Reason)
			}
			s.some(&logins, slog.LevelInfo, "SFTP client gone", attrs...)
		},
		Refused: func(e sftp.RefusedEvent) {
			level := slog.LevelWarn
			switch {
			case e.What == sftp.RefusedRequest && e.Name == "env": // Debian's ssh sends its language to everybody
				level = slog.LevelDebug
			case e.What == sftp.RefusedLogin: // ssh offers every key it has
				level = slog.LevelInfo
			}
			s.some(&refused, level, "SFTP client was refused something", append(peerAttrs(e.Peer), "what", e.What, "name", e.Name, keyReason, e.Reason)...)
		},
		RequestError: func(e sftp.RequestEvent) {
			s.some(&requests, slog.LevelError, "SFTP request failed", append(peerAttrs(e.Peer), "request", e.Request, keyPath, e.Name, keyError, e.Err)...)
		},
		AcceptError: func(err error) {
			s.some(&accepts, slog.LevelError, "SFTP listener cannot accept; it tries again", keyError, err)
		},
	}
}

// peerAttrs leaves out what is not known yet.
func peerAttrs(p sftp.Peer) (attrs []any) {
	for _, a := range []struct{ key, value string }{
		{keyPeer, p.Remote}, {"connection", p.ID}, {"user", p.User}, {"method", p.Method}, {"identity", p.Identity}, {"client", p.Client},
	} {
		if a.value != "" {
			attrs = append(attrs, a.key, a.value)
		}
	}
	return attrs
}

// filesEvents are about what files become.
func (s *Server) filesEvents() files.Events {
	return files.Events{
		Started: func(session, vm, user string) {
			s.log.Info("backup opened by a user's file", keySession, session, keyVM, vm, "user", user)
		},
		Committed: func(user string, r volume.Receipt) {
			s.log.Info("point committed by a user's rename", committedAttrs(r, "user", user)...)
		},
		CommitFailed: func(session, vm, user string, err error) {
			s.log.Error("commit by a user's rename failed", keySession, session, keyVM, vm, "user", user, keyError, err)
		},
		Imported: func(session, vm, disk, file string, size int64, took time.Duration) {
			s.log.Info("file taken as a disk's image", keySession, session, keyVM, vm, keyDisk, disk, "file", file, keyBytes, size,
				keyDuration, took.Round(time.Millisecond))
		},
	}
}

// committedAttrs describe a new point.
func committedAttrs(r volume.Receipt, attrs ...any) []any {
	var fresh, stored int64
	for _, im := range r.Images {
		fresh += im.NewBytes
		stored += im.StoredBytes
	}
	for _, f := range r.Files {
		fresh += f.NewBytes
		stored += f.StoredBytes
	}
	return append(attrs, keyVM, r.VM, keyPoint, r.Point, "images", len(r.Images), "files", len(r.Files), "new_bytes", fresh, "stored_bytes", stored)
}

func connection(c sftp.ConnInfo) api.SFTPConnection {
	return api.SFTPConnection{
		ID: c.Peer.ID, Remote: c.Peer.Remote, User: c.Peer.User, Method: c.Peer.Method, Identity: c.Peer.Identity, Client: c.Peer.Client,
		Connected: c.Since.UTC(), LastUsed: c.LastRequest.UTC(), Handles: c.Handles, BytesIn: int64(c.WrittenBytes), BytesOut: int64(c.ReadBytes),
	}
}
