package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/singleflight"

	"github.com/strongroom-backup/strongroom/files"
	"github.com/strongroom-backup/strongroom/maintenance"
	"github.com/strongroom-backup/strongroom/metrics"
	"github.com/strongroom-backup/strongroom/nbd"
	"github.com/strongroom-backup/strongroom/server/api"
	"github.com/strongroom-backup/strongroom/sftp"
)

// Options are what a Server is made from.
type Options struct {
	Config  Config
	Log     *slog.Logger     // nil: nothing is logged
	FS      vfs.FS           // nil: the operating system's
	Clock   func() time.Time // nil: time.Now
	Version string
	// Fatal is called when a database cannot go on; it must end the process.
	// nil: os.Exit(1).
	Fatal func(reason string)
}

// Server is an open data directory and the listeners that serve it.
type Server struct {
	config  Config
	log     *slog.Logger
	clock   func() time.Time
	started time.Time
	info    api.Info
	token   *token

	engines *engines
	upkeep  *maintenance.Engine
	jobs    *jobs
	exports *exports
	nbd     *nbd.Server
	metrics http.Handler
	files   *files.Service
	logins  *jobLogins
	commits singleflight.Group // by session
	verbs   keyLocks           // by clone: one verb at a time
	// importing is how far the commits under way are: *api.Progress by session.
	importing sync.Map
	// publishing is held shared by commits, and by Close before the engines are
	// closed beneath them.
	publishing sync.RWMutex
	// sftp and sftpInfo are nil when SFTP is off.
	sftp     *sftp.Server
	sftpInfo *api.SFTPInfo

	// ctx lives as long as the server; background work ends with it.
	ctx  context.Context
	stop context.CancelFunc

	listeners listeners

	// background is what uses the engines without a client waiting: the engine's
	// loops, the jobs that requests began, the expiry of backups.
	background sync.WaitGroup

	mu       sync.Mutex // guards draining
	draining bool

	hashing  atomic.Int64 // streams of hashes under way
	refusals burst
	figures  atomic.Pointer[metrics.Figures]
}

// listeners are what the server accepts on; nil where it does not.
type listeners struct{ nbdTCP, nbdUnix, sftp, httpTCP, apiUnix net.Listener }

// Open takes the data directory, recovers what a crash left and listens. Run
// must follow, or Close.
func Open(o Options) (*Server, error) {
	if err := o.fill(); err != nil {
		return nil, err
	}
	secrets, err := o.Config.loadSecrets()
	if err != nil {
		return nil, err
	}
	s := &Server{config: o.Config, log: o.Log, clock: o.Clock, started: o.Clock(), token: secrets.token}
	s.ctx, s.stop = context.WithCancel(context.Background())
	if s.engines, err = openEngines(&s.config, o.FS, o.Clock, o.Log, o.Fatal, s.sessionEnded); err != nil {
		return nil, err
	}
	if err := s.open(o, secrets); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (o *Options) fill() (err error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.FS == nil {
		o.FS = vfs.Default
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Fatal == nil {
		o.Fatal = func(string) { os.Exit(1) }
	}
	// Clients are told the sockets' paths, and may run elsewhere.
	if o.Config.Data, err = filepath.Abs(o.Config.Data); err != nil {
		return err
	}
	return o.Config.Validate()
}

func (s *Server) open(o Options, secrets secrets) (err error) {
	s.jobs = newJobs(func() *maintenance.Engine { return s.upkeep })
	if err := s.openMaintenance(o.Clock); err != nil {
		return err
	}
	if err := s.openFiles(o.FS); err != nil {
		return err
	}
	s.exports = newExports(s.engines.vols, s.engines.cat)
	n := s.config.NBD
	s.nbd, err = nbd.New(nbd.Options{
		Exports: s.exports, TLS: secrets.nbdTLS, ForceTLS: secrets.nbdTLS != nil && n.TLS.Force, Events: s.nbdEvents(),
		Limits: nbd.Limits{
			Connections: n.MaxConnections, MemoryBytes: int64(n.BufferMemory),
			HandshakeTimeout: time.Duration(n.HandshakeTimeout), StallTimeout: time.Duration(n.StallTimeout),
		},
	})
	if err != nil {
		return err
	}
	if s.metrics, err = s.newMetrics(o.Version); err != nil {
		return err
	}
	if err := s.listen(secrets); err != nil {
		return err
	}
	s.info = api.Info{Version: o.Version, StoreID: s.engines.dir.id.StoreID, Data: s.config.Data, SFTP: s.sftpInfo, NBD: api.NBDInfo{
		Socket: s.config.NBDSocket(), TLS: secrets.nbdTLS != nil, ForceTLS: secrets.nbdTLS != nil && n.TLS.Force,
	}}
	if s.listeners.nbdTCP != nil {
		s.info.NBD.Address = s.listeners.nbdTCP.Addr().String()
		if n.Advertise != "" {
			s.info.NBD.Address = n.Advertise
		}
	}
	return nil
}

// newMetrics gives the collectors what they read.
func (s *Server) newMetrics(version string) (http.Handler, error) {
	var sftpStats func() sftp.Stats
	if s.sftp != nil {
		sftpStats = s.sftp.Stats
	}
	return metrics.NewHandler(metrics.Sources{
		SFTP:     sftpStats,
		Files:    s.files.Stats,
		Version:  version,
		NBD:      s.nbd.Stats,
		Volume:   s.engines.vols.Stats,
		Clones:   s.engines.vols.Clones,
		Catalog:  s.engines.cat.Stats,
		Dedup:    s.engines.blocks.Stats,
		Tier:     s.engines.tier.Usage,
		Upkeep:   s.upkeep.Stats,
		Accounts: s.engines.cat.AccountStats,
		Figures:  s.lastFigures,
		Opened:   s.engines.opened,
		Reserve:  int64(s.config.Store.Reserve),
	}, s.log)
}

// Run serves until ctx ends, then drains and closes. It returns nil after an
// orderly end within the configured time.
func (s *Server) Run(ctx context.Context) error {
	api, web := s.httpServers()
	g, failed := errgroup.WithContext(ctx)
	serveNBD := func(ln net.Listener) {
		if ln != nil {
			g.Go(func() error { return endOf("NBD", s.nbd.Serve(s.ctx, ln)) })
		}
	}
	serveHTTP := func(h *http.Server, ln net.Listener) {
		if ln != nil {
			g.Go(func() error { return endOf("HTTP", h.Serve(ln)) })
		}
	}
	serveNBD(s.listeners.nbdTCP)
	serveNBD(s.listeners.nbdUnix)
	if s.sftp != nil {
		g.Go(func() error { return endOf("SFTP", s.sftp.Serve(s.listeners.sftp)) })
	}
	serveHTTP(web, s.listeners.httpTCP)
	serveHTTP(api, s.listeners.apiUnix)
	s.background.Go(s.expireLoop)
	s.background.Go(s.upkeepLoop)
	s.background.Go(s.figuresLoop)
	s.log.Info("serving", keyPath, s.config.Data, "nbd", s.info.NBD.Address, "sftp", s.SFTPAddress(), "nbd_socket", s.info.NBD.Socket,
		"api_socket", s.config.APISocket(), "http", s.HTTPAddress())
	notify("READY=1")
	<-failed.Done()
	notify("STOPPING=1")
	drained := s.drain(api, web)
	if err := g.Wait(); err != nil {
		return errors.Join(err, drained)
	}
	return drained
}

// endOf makes an orderly end no error, so that errgroup ends on failures only.
func endOf(what string, err error) error {
	if err == nil || errors.Is(err, nbd.ErrServerClosed) || errors.Is(err, sftp.ErrServerClosed) || errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}

// expireLoop ends expired sessions until the server stops.
func (s *Server) expireLoop() {
	tick := time.NewTicker(expireEvery)
	defer tick.Stop()
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-tick.C:
			s.expire(s.clock())
		}
	}
}

// upkeepLoop does what is due until the server stops.
func (s *Server) upkeepLoop() {
	if err := s.upkeep.Run(s.ctx); err != nil {
		s.log.Error("upkeep has ended: nothing is collected, verified or pruned until the server is started again", keyError, err)
	}
}

// drain answers what is in flight, closes all connections and the engines. The
// configured time bounds the first; the second has closeTimeout more.
func (s *Server) drain(servers ...*http.Server) error {
	s.log.Info("draining", "timeout", s.config.DrainTimeout)
	s.mu.Lock()
	s.draining = true
	s.mu.Unlock()
	close(s.jobs.leave) // requests that wait for a job are answered
	begun := time.Now()
	done := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Duration(s.config.DrainTimeout))
		defer cancel()
		var g errgroup.Group
		g.Go(func() error { return s.nbd.Shutdown(ctx) })
		if s.sftp != nil {
			g.Go(func() error { return s.sftp.Shutdown(ctx) })
		}
		for _, h := range servers {
			g.Go(func() error { return h.Shutdown(ctx) })
		}
		err := g.Wait()
		s.stop()
		done <- errors.Join(err, s.Close())
	}()
	limit := time.Duration(s.config.DrainTimeout) + closeTimeout
	select {
	case err := <-done:
		s.log.Info("closed", keyDuration, time.Since(begun).Round(time.Millisecond))
		return err
	case <-time.After(limit):
		s.stop()
		return fmt.Errorf("the server did not end within %v; what was acknowledged is safe", limit)
	}
}

// Close closes listeners and engines at once. Run does it by itself.
func (s *Server) Close() error {
	s.stop()
	s.listeners.close()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if s.nbd != nil {
		s.nbd.Shutdown(ctx) // its error is that it did not wait
	}
	if s.sftp != nil {
		s.sftp.Shutdown(ctx)
	}
	s.background.Wait()
	if s.jobs != nil {
		s.jobs.work.Wait()
	}
	s.publishing.Lock()
	defer s.publishing.Unlock()
	if s.files != nil {
		s.files.Close()
	}
	return s.engines.close()
}

// NBDAddress, HTTPAddress and the sockets of Config are where clients connect;
// empty: nowhere.
func (s *Server) NBDAddress() string { return s.info.NBD.Address }

// HTTPAddress is the address listened on.
func (s *Server) HTTPAddress() string {
	if s.listeners.httpTCP == nil {
		return ""
	}
	return s.listeners.httpTCP.Addr().String()
}

// APISocket is the control API's unix socket.
func (s *Server) APISocket() string { return s.config.APISocket() }
