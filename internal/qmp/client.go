package qmp

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"sync"
)

// keptEvents bounds the events a Client remembers; the oldest are dropped.
const keptEvents = 256

// Error is what the monitor answered instead of a result.
type Error struct {
	Command string `json:"-"`
	Class   string `json:"class"`
	Desc    string `json:"desc"`
}

func (e *Error) Error() string { return fmt.Sprintf("qmp %s: %s (%s)", e.Command, e.Desc, e.Class) }

// Event is one asynchronous message of the monitor.
type Event struct {
	Name string          `json:"event"`
	Data json.RawMessage `json:"data"`
}

// Client is one connection to a monitor. Its methods may be called concurrently.
type Client struct {
	conn    net.Conn
	writeMu sync.Mutex

	mu      sync.Mutex
	waiting map[uint64]chan message
	events  []Event
	nextID  uint64
	closed  error // why the reader stopped; nil while it runs
}

type message struct {
	ID     *uint64         `json:"id"`
	Return json.RawMessage `json:"return"`
	Error  *Error          `json:"error"`
	Event
}

// Dial connects to the monitor on a unix socket and leaves its negotiation mode.
func Dial(ctx context.Context, socket string) (*Client, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, fmt.Errorf("qmp: %w", err)
	}
	dec := json.NewDecoder(conn)
	var greeting struct{ QMP json.RawMessage }
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	err = dec.Decode(&greeting)
	stop()
	if err != nil || greeting.QMP == nil {
		conn.Close()
		return nil, fmt.Errorf("qmp: no greeting on %s (is it a QMP socket, and free?): %w", socket, errors.Join(err, ctx.Err()))
	}
	c := &Client{conn: conn, waiting: map[uint64]chan message{}}
	go c.read(dec)
	if err := c.Execute(ctx, "qmp_capabilities", nil, nil); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// Close ends the connection; commands under way fail.
func (c *Client) Close() error { return c.conn.Close() }

// Execute runs a command and decodes what it returns into result, which may be
// nil. The monitor's refusal is an *Error.
func (c *Client) Execute(ctx context.Context, command string, args, result any) error {
	id, reply, err := c.register()
	if err != nil {
		return err
	}
	defer c.forget(id)
	if err := c.send(id, command, args); err != nil {
		return err
	}
	select {
	case m, ok := <-reply:
		if !ok {
			return fmt.Errorf("qmp %s: connection lost: %w", command, c.reason())
		}
		return m.decode(command, result)
	case <-ctx.Done():
		return fmt.Errorf("qmp %s: %w", command, ctx.Err())
	}
}

// Events returns the latest events, oldest first.
func (c *Client) Events() []Event {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]Event(nil), c.events...)
}

func (m message) decode(command string, result any) error {
	if m.Error != nil {
		m.Error.Command = command
		return m.Error
	}
	if result == nil {
		return nil
	}
	if err := json.Unmarshal(m.Return, result); err != nil {
		return fmt.Errorf("qmp %s: unexpected result: %w", command, err)
	}
	return nil
}

func (c *Client) register() (uint64, <-chan message, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed != nil {
		return 0, nil, fmt.Errorf("qmp: connection lost: %w", c.closed)
	}
	c.nextID++
	ch := make(chan message, 1)
	c.waiting[c.nextID] = ch
	return c.nextID, ch, nil
}

func (c *Client) forget(id uint64) {
	c.mu.Lock()
	delete(c.waiting, id)
	c.mu.Unlock()
}

func (c *Client) reason() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closed
}

func (c *Client) send(id uint64, command string, args any) error {
	line, err := json.Marshal(struct {
		Execute   string `json:"execute"`
		Arguments any    `json:"arguments,omitempty"`
		ID        uint64 `json:"id"`
	}{command, args, id})
	if err != nil {
		return fmt.Errorf("qmp %s: %w", command, err)
	}
	c.writeMu.Lock()
	defer c.writeMu.Unlock()
	if _, err := c.conn.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("qmp %s: %w", command, err)
	}
	return nil
}

// read routes replies and events until the connection ends.
func (c *Client) read(dec *json.Decoder) {
	for {
		var m message
		if err := dec.Decode(&m); err != nil {
			c.end(err)
			return
		}
		c.deliver(m)
	}
}

func (c *Client) deliver(m message) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if m.Name != "" {
		if len(c.events) == keptEvents {
			c.events = c.events[1:]
		}
		c.events = append(c.events, m.Event)
		return
	}
	if m.ID == nil {
		return // a reply to something unparsable; nobody waits for it
	}
	if ch, ok := c.waiting[*m.ID]; ok {
		delete(c.waiting, *m.ID)
		ch <- m
	}
}

func (c *Client) end(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = err
	for id, ch := range c.waiting {
		delete(c.waiting, id)
		close(ch)
	}
}
