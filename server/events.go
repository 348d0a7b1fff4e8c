package server

import (
	"log/slog"
	"time"

	"github.com/strongroom-backup/strongroom/dedup"
	"github.com/strongroom-backup/strongroom/nbd"
	"github.com/strongroom-backup/strongroom/tier"
)

// The engines call these hooks; here they become log lines. Hooks must be
// quick: writing a line to standard error is.

func dedupEvents(log *slog.Logger) dedup.Events {
	var damage burst // whoever reads damaged data again and again makes it
	return dedup.Events{
		PackSealed: func(id tier.ID, slots int, bytes int64) {
			log.Debug("pack sealed", "pack", id.Pack, "gen", id.Gen, "slots", slots, keyBytes, bytes)
		},
		PackGivenUp: func(id tier.ID, durable int, err error) {
			log.Error("pack given up: it could not be synced, what was not durable is lost", "pack", id.Pack, "gen", id.Gen, "durable_slots", durable, keyError, err)
		},
		PackRecovered: func(id tier.ID, slots int, torn int64) {
			log.Info("pack recovered after a crash", "pack", id.Pack, "gen", id.Gen, "slots", slots, "torn_bytes", torn)
		},
		PackMissing: func(pack uint64, gen uint32) {
			log.Error("pack is missing: points that need it cannot be read whole", "pack", pack, "gen", gen)
		},
		Damage: func(err *dedup.DamageError) {
			if ok, dropped := damage.allow(time.Now()); ok {
				log.Error("stored data is damaged; it is not served", "pack", err.Pack, "gen", err.Gen, "slot", err.Slot, "offset", err.Offset, keyReason, err.Reason, "left_out", dropped)
			}
		},
		IndexRebuilt: func(reason error) {
			log.Warn("block index is being built anew from the packs", keyReason, reason)
		},
		IndexError: func(err error) {
			log.Error("a look-up in the block index failed; blocks may be stored twice", keyError, err)
		},
		SealFailed: func(id tier.ID, err error) {
			log.Error("the end of a pack could not be written; it is tried again", "pack", id.Pack, "gen", id.Gen, keyError, err)
		},
	}
}

func (s *Server) nbdEvents() nbd.Events {
	var errors, handshakes, refused, accepts burst
	return nbd.Events{
		ConnOpen: func(e nbd.ConnEvent) {
			s.log.Info("NBD client connected", connAttrs(e)...)
		},
		ConnClose: func(e nbd.ConnEvent) {
			attrs := append(connAttrs(e), keyDuration, e.Duration.Round(time.Millisecond))
			if e.Reason != nil {
				attrs = append(attrs, keyReason, e.Reason)
			}
			s.log.Info("NBD client gone", attrs...)
		},
		HandshakeFailed: func(p nbd.Peer, err error) {
			s.some(&handshakes, slog.LevelWarn, "NBD handshake failed", keyPeer, p.String(), keyError, err)
		},
		Refused: func(p nbd.Peer) {
			s.some(&refused, slog.LevelWarn, "NBD connection refused: nbd.max-connections is reached", keyPeer, p.String())
		},
		RequestError: func(e nbd.RequestEvent) {
			s.some(&errors, slog.LevelError, "NBD request failed", keyPeer, e.Peer.String(), keyExport, redact(e.Export),
				"command", e.Command, "offset", e.Offset, "length", e.Length, "errno", e.Errno, keyError, e.Err)
		},
		AcceptError: func(err error) {
			s.some(&accepts, slog.LevelError, "NBD listener cannot accept; it tries again", keyError, err)
		},
	}
}

func connAttrs(e nbd.ConnEvent) []any {
	return []any{keyPeer, e.Peer.String(), keyExport, redact(e.Export), "read_only", e.ReadOnly, "tls", e.Peer.TLS}
}

// some logs what may come in floods.
func (s *Server) some(b *burst, level slog.Level, msg string, attrs ...any) {
	ok, dropped := b.allow(time.Now())
	if !ok {
		return
	}
	if dropped > 0 {
		attrs = append(attrs, "left_out", dropped)
	}
	s.log.Log(s.ctx, level, msg, attrs...)
}
