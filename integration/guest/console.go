package guest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
)

// outputLimit is how much of a guest's output is kept: a test that loops over
// an error must not fill the memory.
const outputLimit = 1 << 20

// Console is a guest's serial line.
type Console struct {
	conn net.Conn
	runs int // commands so far

	mu     sync.Mutex
	output []byte        // what the guest printed, at most outputLimit of it
	seen   int           // bytes of output that were waited for
	ended  error         // why no more will come
	news   chan struct{} // closed when output or ended changes
}

// ErrGuestFailed is a command in the guest that did not exit 0.
var ErrGuestFailed = errors.New("command failed in the guest")

func newConsole(conn net.Conn) *Console {
	c := &Console{conn: conn, news: make(chan struct{})}
	go c.read()
	return c
}

func (c *Console) read() {
	buf := make([]byte, 4096)
	for {
		n, err := c.conn.Read(buf)
		c.add(buf[:n], err)
		if err != nil {
			return
		}
	}
}

func (c *Console) add(text []byte, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.output = append(c.output, text...)
	if extra := len(c.output) - outputLimit; extra > 0 {
		c.output = append([]byte(nil), c.output[extra:]...)
		c.seen = max(0, c.seen-extra)
	}
	c.ended = err
	close(c.news)
	c.news = make(chan struct{})
}

// Output is what the guest has printed, the newest MiB of it.
func (c *Console) Output() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return strings.ReplaceAll(string(c.output), "\r", "")
}

// Until waits until the guest prints text and returns what came before it.
func (c *Console) Until(ctx context.Context, text string) (string, error) {
	for {
		c.mu.Lock()
		rest, news, ended := string(c.output[c.seen:]), c.news, c.ended
		if i := strings.Index(rest, text); i >= 0 {
			c.seen += i + len(text)
			c.mu.Unlock()
			return strings.ReplaceAll(rest[:i], "\r", ""), nil
		}
		c.mu.Unlock()
		if ended != nil && ended != io.EOF {
			return "", fmt.Errorf("waiting for %q: the serial line broke: %w", text, ended)
		}
		if ended != nil {
			return "", fmt.Errorf("waiting for %q: the guest ended; it printed:\n%s", text, rest)
		}
		select {
		case <-news:
		case <-ctx.Done():
			return "", fmt.Errorf("waiting for %q: %w; the guest printed:\n%s", text, ctx.Err(), rest)
		}
	}
}

// Send types a line.
func (c *Console) Send(line string) error {
	_, err := io.WriteString(c.conn, line+"\r")
	return err
}

// Login waits for the login prompt and logs root in.
func (c *Console) Login(ctx context.Context) error {
	if _, err := c.Until(ctx, "guest login: "); err != nil {
		return err
	}
	if err := c.Send("root"); err != nil {
		return err
	}
	if _, err := c.Until(ctx, "# "); err != nil {
		return err
	}
	// From here on nothing is printed but what commands print.
	if err := c.Send("stty -echo; PS1="); err != nil {
		return err
	}
	_, err := c.Run(ctx, "dmesg -n 1")
	return err
}

// Run runs a shell command and returns what it printed, without the last end
// of line. The error wraps ErrGuestFailed when it did not exit 0.
func (c *Console) Run(ctx context.Context, command string) (string, error) {
	wait, err := c.Start(command)
	if err != nil {
		return "", err
	}
	return wait(ctx)
}

// Start types a command as Run does; wait returns what it came to.
func (c *Console) Start(command string) (wait func(context.Context) (string, error), err error) {
	c.runs++
	// The shell makes the marks, so that a line echoed by the terminal is none.
	line := fmt.Sprintf("echo \"<$((%d+0)):\"; { %s\n}; echo \":$?:$((%d+0))>\"", c.runs, command, c.runs)
	if err := c.Send(line); err != nil {
		return nil, err
	}
	begin, end := fmt.Sprintf("<%d:\r\n", c.runs), fmt.Sprintf(":%d>\r\n", c.runs)
	return func(ctx context.Context) (string, error) { return c.result(ctx, begin, end, command) }, nil
}

func (c *Console) result(ctx context.Context, begin, end, command string) (string, error) {
	if _, err := c.Until(ctx, begin); err != nil {
		return "", err
	}
	printed, err := c.Until(ctx, end)
	if err != nil {
		return "", err
	}
	i := strings.LastIndexByte(printed, ':')
	if i < 0 {
		return "", fmt.Errorf("%s: the end of the command is not to be seen in %q", command, printed)
	}
	text, code := strings.TrimSuffix(printed[:i], "\n"), printed[i+1:]
	if code != "0" {
		return text, fmt.Errorf("%w: %s: exit %s: %s", ErrGuestFailed, command, code, text)
	}
	return text, nil
}
