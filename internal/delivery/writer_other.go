//go:build !linux

package delivery

import (
	"crypto/tls"
	"errors"
	"net"
	"time"
)

// directDelivery says that this system has what direct delivery needs: epoll
// and sends that never block.
const directDelivery = false

var errNoWriter = errors.New("direct delivery needs Linux")

type writer struct{ mail mailbox }

func newWriter(time.Duration, *retained) (*writer, error) { return nil, errNoWriter }
func (*writer) run(<-chan struct{})                       {}
func newSocket(net.Conn) (socket, error)                  { return socket{}, errNoWriter }
func closeLost(net.Conn, *silence) bool                   { return false }
func endResponse(socket)                                  {}
func reportsFreeSpace(*tls.Conn) bool                     { return false }
