package redis

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/redis/go-redis/v9"

	"github.com/pollsse/caddy-poll-sse/cluster"
)

// topic is what a node has joined. A key is a hash with the fields r, the
// owner's revision, o, the owner's record, and d, the document.
type topic struct {
	connection *connection
	key        string
	box        *cluster.Mailbox
}

// maxMessage bounds a message: a subscriber that owes Redis 32 MB is cut off.
const maxMessage = 1 << 20

// Messages implements cluster.Topic.
func (t *topic) Messages() <-chan cluster.Message { return t.box.Messages() }

// Send implements cluster.Topic.
func (t *topic) Send(message []byte) error {
	if len(message) > maxMessage {
		return cluster.ErrTooLarge
	}
	client, err := t.connection.commands()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), answerTime)
	defer cancel()
	return client.Publish(ctx, t.name(), message).Err()
}

func (t *topic) name() string { return t.connection.channel(t.key) }

// Owner implements cluster.Topic.
func (t *topic) Owner(ctx context.Context) (uint64, []byte, error) {
	client, err := t.connection.commands()
	if err != nil {
		return 0, nil, err
	}
	got, err := client.HMGet(ctx, t.name(), "r", "o").Result()
	if err != nil || got[0] == nil {
		return 0, nil, err
	}
	revision, err := strconv.ParseUint(got[0].(string), 10, 64)
	if err != nil {
		return 0, nil, fmt.Errorf("the owner's revision: %w", err)
	}
	record, _ := got[1].(string)
	return revision, []byte(record), nil
}

// swap writes the owner's record. A revision is the time in microseconds, so
// that none comes again after the server has forgotten the key.
var swap = redis.NewScript(`
local now = redis.call('HGET', KEYS[1], 'r') or '0'
if now ~= ARGV[1] then return '' end
local t = redis.call('TIME')
local rev = t[1] * 1000000 + t[2]
if rev <= tonumber(now) then rev = tonumber(now) + 1 end
local text = string.format('%.0f', rev)
redis.call('HSET', KEYS[1], 'r', text, 'o', ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return text
`)

// Swap implements cluster.Topic.
func (t *topic) Swap(ctx context.Context, revision uint64, record []byte) (uint64, error) {
	client, err := t.connection.commands()
	if err != nil {
		return 0, err
	}
	got, err := swap.Run(ctx, client, []string{t.name()}, revision, record, cluster.Retention.Milliseconds()).Text()
	if err != nil {
		return 0, err
	}
	if got == "" {
		return 0, cluster.ErrConflict
	}
	return strconv.ParseUint(got, 10, 64)
}

// Document implements cluster.Topic.
func (t *topic) Document(ctx context.Context) ([]byte, error) {
	client, err := t.connection.commands()
	if err != nil {
		return nil, err
	}
	got, err := client.HGet(ctx, t.name(), "d").Bytes()
	if errors.Is(err, redis.Nil) {
		return nil, nil
	}
	return got, err
}

var put = redis.NewScript(`
if redis.call('HGET', KEYS[1], 'r') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'd', ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1
`)

// Put implements cluster.Topic. Redis takes up to 512 MB, which is more than
// any document has.
func (t *topic) Put(ctx context.Context, owner uint64, document []byte) error {
	client, err := t.connection.commands()
	if err != nil {
		return err
	}
	got, err := put.Run(ctx, client, []string{t.name()}, owner, document, cluster.Retention.Milliseconds()).Int()
	if err == nil && got == 0 {
		return cluster.ErrConflict
	}
	return err
}

// Close implements cluster.Topic.
func (t *topic) Close() {
	c := t.connection
	c.mu.Lock()
	defer c.mu.Unlock()
	j := c.keys[t.key]
	if j == nil {
		return
	}
	if delete(j.topics, t); len(j.topics) == 0 {
		delete(c.keys, t.key)
		c.left[t.key] = struct{}{}
		c.note()
	}
}
