package server

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/strongroom-backup/strongroom/server/api"
)

// openAPI is the control API's formal description; a test compares it with the
// routes and the types.
//
//go:embed openapi.yaml
var openAPI []byte

// access says who may use a route.
type access int

const (
	// accessAnyone: whoever reaches the address.
	accessAnyone access = iota
	// accessNames: tells names, sizes and times. Whoever may open the unix
	// socket; over TCP with the token, or, when none is configured, whoever
	// reaches the address (which is a loopback one unless the operator said
	// otherwise).
	accessNames
	// accessFull: changes something, or tells secrets (exports' tokens, blobs).
	// Over TCP only with the token.
	accessFull
)

// route is an endpoint.
type route struct {
	method  string
	pattern string
	access  access
	handle  func(s *Server, w http.ResponseWriter, r *http.Request) (any, error)
}

// routes is the whole API. A handler returns what is sent as JSON; one that
// writes the answer itself returns nil.
var routes = []route{
	{"GET", "/healthz", accessAnyone, (*Server).getHealth},
	{"GET", "/metrics", accessNames, (*Server).getMetrics},
	{"GET", api.Base + "/openapi.yaml", accessAnyone, (*Server).getOpenAPI},
	{"GET", api.Base + "/info", accessNames, (*Server).getInfo},
	{"GET", api.Base + "/stats", accessNames, (*Server).getStats},
	{"POST", api.Base + "/backups", accessFull, (*Server).postBackup},
	{"GET", api.Base + "/backups", accessFull, (*Server).getBackups},
	{"GET", api.Base + "/backups/{session}", accessFull, (*Server).getBackup},
	{"POST", api.Base + "/backups/{session}/commit", accessFull, (*Server).postCommit},
	{"POST", api.Base + "/backups/{session}/abort", accessFull, (*Server).postAbort},
	{"POST", api.Base + "/clones", accessFull, (*Server).postClone},
	{"GET", api.Base + "/clones", accessFull, (*Server).getClones},
	{"GET", api.Base + "/clones/{id}", accessFull, (*Server).getClone},
	{"DELETE", api.Base + "/clones/{id}", accessFull, (*Server).deleteClone},
	{"POST", api.Base + "/clones/{id}/resume", accessFull, (*Server).postResume},
	{"POST", api.Base + "/clones/{id}/seal", accessFull, (*Server).postSeal},
	{"GET", api.Base + "/vms", accessNames, (*Server).getVMs},
	{"GET", api.Base + "/points", accessNames, (*Server).getPoints},
	{"GET", api.Base + "/points/{ref}", accessNames, (*Server).getPoint},
	{"DELETE", api.Base + "/points/{ref}", accessFull, (*Server).deletePoint},
	{"GET", api.Base + "/points/{ref}/blobs/{name}", accessFull, (*Server).getBlob},
	{"GET", api.Base + "/points/{ref}/disks/{disk}/hashes", accessFull, (*Server).getHashes},
	{"POST", api.Base + "/points/{ref}/undelete", accessFull, (*Server).postUndelete},
	{"POST", api.Base + "/points/{ref}/hold", accessFull, (*Server).postHold},
	{"DELETE", api.Base + "/points/{ref}/hold", accessFull, (*Server).deleteHold},
	{"POST", api.Base + "/points/{ref}/lock", accessFull, (*Server).postLock},
	{"GET", api.Base + "/trash", accessNames, (*Server).getTrash},
	{"GET", api.Base + "/vms/{vm}/policy", accessNames, (*Server).getPolicy},
	{"PUT", api.Base + "/vms/{vm}/policy", accessFull, (*Server).putPolicy},
	{"GET", api.Base + "/vms/{vm}/disks/{disk}/chain", accessNames, (*Server).getChain},
	{"POST", api.Base + "/vms/{vm}/disks/{disk}/merge", accessFull, (*Server).postMerge},
	{"POST", api.Base + "/prune/plan", accessNames, (*Server).postPrunePlan},
	{"POST", api.Base + "/prune", accessFull, (*Server).postPrune},
	{"GET", api.Base + "/gc", accessNames, (*Server).getGC},
	{"POST", api.Base + "/gc", accessFull, (*Server).postGC},
	{"GET", api.Base + "/compress", accessNames, (*Server).getCompress},
	{"POST", api.Base + "/compress", accessFull, (*Server).postCompress},
	{"GET", api.Base + "/verify", accessNames, (*Server).getVerify},
	{"POST", api.Base + "/verify", accessFull, (*Server).postVerify},
	{"GET", api.Base + "/damage", accessNames, (*Server).getDamage},
	{"GET", api.Base + "/usage", accessNames, (*Server).getUsage},
	{"GET", api.Base + "/sftp/connections", accessFull, (*Server).getSFTPConnections},
	{"GET", api.Base + "/jobs", accessNames, (*Server).getJobs},
	{"GET", api.Base + "/jobs/{id}", accessNames, (*Server).getJob},
	{"DELETE", api.Base + "/jobs/{id}", accessFull, (*Server).deleteJob},
}

// httpServers makes the server of the unix socket, which is trusted, and that
// of TCP.
func (s *Server) httpServers() (unix, tcp *http.Server) {
	return s.httpServer(true), s.httpServer(false)
}

func (s *Server) httpServer(trusted bool) *http.Server {
	return &http.Server{
		Handler:           s.handler(trusted),
		ReadHeaderTimeout: httpHeaderTimeout,
		ReadTimeout:       httpReadTimeout,
		IdleTimeout:       httpIdleTimeout,
		MaxHeaderBytes:    headerBytesMax,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
		BaseContext:       func(net.Listener) context.Context { return s.ctx },
	}
}

func (s *Server) handler(trusted bool) http.Handler {
	mux := http.NewServeMux()
	for _, rt := range routes {
		mux.HandleFunc(rt.method+" "+rt.pattern, func(w http.ResponseWriter, r *http.Request) {
			s.serve(w, r, rt, trusted)
		})
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		s.answer(w, r, nil, &api.Error{Status: http.StatusNotFound, Message: "no such endpoint: " + r.Method + " " + r.URL.Path,
			Hint: "see " + api.Base + "/openapi.yaml"})
	})
	return mux
}

// serve checks who asks, asks the handler and sends its answer.
func (s *Server) serve(w http.ResponseWriter, r *http.Request, rt route, trusted bool) {
	if !trusted {
		if err := s.authorize(r, rt.access); err != nil {
			s.answer(w, r, nil, err)
			return
		}
	}
	r.Body = http.MaxBytesReader(w, r.Body, bodyBytesMax)
	if rt.method == http.MethodGet { // these may write by themselves
		limitWrite(w)
	}
	out, err := rt.handle(s, w, r)
	if out != nil || err != nil {
		s.answer(w, r, out, err)
	}
}

// authorize decides over TCP.
func (s *Server) authorize(r *http.Request, a access) error {
	given, hasToken := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	switch {
	case a == accessAnyone:
		return nil
	case s.token != nil && hasToken && s.token.matches(given):
		return nil
	case s.token != nil:
		return &api.Error{Status: http.StatusUnauthorized, Message: "this needs the API's token",
			Hint: "send \"Authorization: Bearer TOKEN\" (strongroom --api-token-file FILE), or use the unix socket"}
	case a == accessFull:
		return &api.Error{Status: http.StatusForbidden, Message: "over TCP this needs a token, and the server has none configured",
			Hint: "use the unix socket " + s.config.APISocket() + ", or set api.token-file"}
	case !s.config.HTTP.AllowInsecurePublic && !isLocalHost(r.Host):
		// A web page elsewhere may have given its own name our address.
		return &api.Error{Status: http.StatusForbidden, Message: "the request is for another host", Hint: "ask for localhost or the address itself"}
	}
	return nil
}

// isLocalHost reports whether a Host header names this host's loopback.
func isLocalHost(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	ip, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return host == "localhost" || err == nil && ip.IsLoopback()
}

// answer sends JSON: out, or the error.
func (s *Server) answer(w http.ResponseWriter, r *http.Request, out any, err error) {
	status := http.StatusOK
	if err != nil {
		e := refusal(err)
		status, out = e.Status, e
		s.logRefusal(r, e)
		if status == http.StatusUnauthorized {
			w.Header().Set("WWW-Authenticate", "Bearer")
		}
	}
	jsonHeader(w.Header())
	limitWrite(w)
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(out) // a client that went away needs no answer
}

func (s *Server) logRefusal(r *http.Request, e *api.Error) {
	level := slog.LevelDebug
	switch {
	case e.Status >= 500:
		level = slog.LevelError
	case e.Status == http.StatusUnauthorized || e.Status == http.StatusForbidden:
		level = slog.LevelWarn
	}
	s.some(&s.refusals, level, "API request refused", "method", r.Method, keyPath, r.URL.Path, "status", e.Status,
		keyPeer, r.RemoteAddr, keyError, e.Message)
}

// decode reads a JSON body strictly: a misspelt field must not be taken for one
// left out.
func decode(r *http.Request, into any) error {
	if t, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || t != "application/json" {
		return &api.Error{Status: http.StatusUnsupportedMediaType, Message: "want a body of Content-Type application/json"}
	}
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return decodeError(err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return &api.Error{Status: http.StatusBadRequest, Message: "the body goes on after the JSON document"}
	}
	return nil
}

func decodeError(err error) error {
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return &api.Error{Status: http.StatusRequestEntityTooLarge, Message: "the body is too large",
			Hint: "blobs of a point may have 16 MiB together"}
	}
	return &api.Error{Status: http.StatusBadRequest, Message: "the body is not what is wanted here: " + err.Error(),
		Hint: "see " + api.Base + "/openapi.yaml"}
}

// uptime is the time since the server was opened.
func (s *Server) uptime() time.Duration { return s.clock().Sub(s.started) }
