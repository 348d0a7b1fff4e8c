package server

import (
	"io/fs"
	"path/filepath"
	"time"

	"github.com/strongroom-backup/strongroom/internal/units"
)

// Config is every setting of the server. The key tags are the names in the
// file; a setting's environment variable is STRONGROOM_ and its path in capital
// letters, with _ for . and - (nbd.max-connections: STRONGROOM_NBD_MAX_CONNECTIONS).
//
// Whoever adds a setting adds it to etc/strongroom.yml too; a test compares.
type Config struct {
	Data         string         `key:"data"`
	DrainTimeout units.Duration `key:"drain-timeout"`
	NBD          NBDConfig      `key:"nbd"`
	SFTP         SFTPConfig     `key:"sftp"`
	API          APIConfig      `key:"api"`
	HTTP         HTTPConfig     `key:"http"`
	Store        StoreConfig    `key:"store"`
	Backup       BackupConfig   `key:"backup"`

	Trash     TrashConfig     `key:"trash"`
	Retention RetentionConfig `key:"retention"`
	Chains    ChainsConfig    `key:"chains"`
	GC        GCConfig        `key:"gc"`
	Compress  CompressConfig  `key:"compress"`
	Scrub     ScrubConfig     `key:"scrub"`

	Log LogConfig `key:"log"`
}

// NBDConfig is the NBD server's part.
type NBDConfig struct {
	Listen              string         `key:"listen"`    // host:port, or none
	Advertise           string         `key:"advertise"` // host:port clients are told; empty: the address listened on
	Socket              string         `key:"socket"`    // path, or none
	SocketMode          fs.FileMode    `key:"socket-mode"`
	TLS                 NBDTLSConfig   `key:"tls"`
	AllowInsecurePublic bool           `key:"allow-insecure-public"`
	MaxConnections      int            `key:"max-connections"`
	BufferMemory        units.Size     `key:"buffer-memory"`
	HandshakeTimeout    units.Duration `key:"handshake-timeout"`
	StallTimeout        units.Duration `key:"stall-timeout"`
}

// NBDTLSConfig turns TLS on for NBD over TCP when Cert and Key are set.
type NBDTLSConfig struct {
	Cert     string `key:"cert"`
	Key      string `key:"key"`
	ClientCA string `key:"client-ca"`
	Force    bool   `key:"force"`
}

// APIConfig is the control API's part.
type APIConfig struct {
	Socket    string `key:"socket"` // path, or none
	TokenFile string `key:"token-file"`
}

// HTTPConfig is the TCP address of metrics, health and the control API.
type HTTPConfig struct {
	Listen              string        `key:"listen"` // host:port, or none
	TLS                 HTTPTLSConfig `key:"tls"`
	AllowInsecurePublic bool          `key:"allow-insecure-public"`
}

// HTTPTLSConfig turns TLS on for HTTP over TCP when both are set.
type HTTPTLSConfig struct {
	Cert string `key:"cert"`
	Key  string `key:"key"`
}

// StoreConfig is the part of the engines below.
type StoreConfig struct {
	Reserve      units.Size `key:"reserve"`
	IndexCache   units.Size `key:"index-cache"`
	CatalogCache units.Size `key:"catalog-cache"`
	TOCCache     units.Size `key:"toc-cache"`
	ReadCache    units.Size `key:"read-cache"`
}

// BackupConfig bounds open backups.
type BackupConfig struct {
	TTL    units.Duration `key:"ttl"`
	MaxTTL units.Duration `key:"max-ttl"`
}

// LogConfig is how the server tells what it does.
type LogConfig struct {
	Level  string `key:"level"`
	Format string `key:"format"`
}

// None turns a listener off.
const None = "none"

// NewConfig is the configuration of a server that was told nothing.
func NewConfig() Config {
	return Config{
		Data:         "/var/lib/strongroom",
		DrainTimeout: units.Duration(drainTimeoutDefault),
		NBD: NBDConfig{
			Listen:           "127.0.0.1:10809",
			Socket:           "nbd.sock",
			SocketMode:       0o600,
			TLS:              NBDTLSConfig{Force: true},
			MaxConnections:   256,
			BufferMemory:     256 * units.MiB,
			HandshakeTimeout: units.Duration(nbdHandshakeDefault),
			StallTimeout:     units.Duration(nbdStallDefault),
		},
		SFTP: SFTPConfig{
			Listen:       None,
			Limits:       SFTPLimits{Connections: 256, ConnectionsPerAddress: 64, ConnectionsPerUser: 32, Handles: 1024},
			LoginTimeout: units.Duration(sftpLoginDefault),
			IdleTimeout:  units.Duration(sftpIdleDefault),
		},
		API:  APIConfig{Socket: "api.sock"},
		HTTP: HTTPConfig{Listen: "127.0.0.1:9180"},
		Store: StoreConfig{
			Reserve:      512 * units.MiB,
			IndexCache:   128 * units.MiB,
			CatalogCache: 64 * units.MiB,
			TOCCache:     64 * units.MiB,
			ReadCache:    64 * units.MiB,
		},
		Backup: BackupConfig{TTL: units.Duration(units.Day), MaxTTL: units.Duration(30 * units.Day)},
		Trash:  TrashConfig{Keep: units.Duration(units.Day)},
		Retention: RetentionConfig{
			Schedule: "17 * * * *", Timezone: "Local",
		},
		Chains: ChainsConfig{FullAfter: 63, Limit: 128},
		GC: GCConfig{
			Rate: 100 * units.MiB, DeadRatio: 0.25, ReclaimAt: units.GiB,
			Every: units.Duration(30 * time.Second), Grace: units.Duration(10 * time.Second),
		},
		Compress: CompressConfig{Idle: units.Duration(10 * time.Second), WaitingAt: 32 * units.GiB},
		Scrub:    ScrubConfig{TargetAge: units.Duration(30 * units.Day), Rate: 100 * units.MiB},
		Log:      LogConfig{Level: "info", Format: "text"},
	}
}

// NBDSocket is the path of the NBD unix socket, empty for none.
func (c *Config) NBDSocket() string { return c.socket(c.NBD.Socket) }

// APISocket is the path of the control API's unix socket, empty for none.
func (c *Config) APISocket() string { return c.socket(c.API.Socket) }

// socket resolves a socket setting; a relative path begins at the data directory.
func (c *Config) socket(setting string) string {
	switch {
	case setting == "" || setting == None:
		return ""
	case filepath.IsAbs(setting):
		return setting
	}
	return filepath.Join(c.Data, setting)
}
