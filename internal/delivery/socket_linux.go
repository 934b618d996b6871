package delivery

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// newSocket takes over a TCP or Unix connection, or TLS over TCP. On an error the
// connection is still the caller's.
//
// Without TLS, the descriptor is all that is left of it: the rest, which net's
// poller would hold on to, is closed. With TLS, the connection stays and owns
// its descriptor, which is otherwise used in the same way: nothing is decrypted
// any more, so what the client still sends is dropped unread.
func newSocket(c net.Conn) (socket, error) {
	secure, _ := c.(*tls.Conn)
	if secure != nil {
		c = secure.NetConn()
	}
	sc, ok := c.(syscall.Conn)
	if !ok {
		return socket{}, fmt.Errorf("%T has no descriptor", c)
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return socket{}, err
	}
	fd := -1
	var dupErr error
	err = raw.Control(func(old uintptr) {
		if fd = int(old); secure == nil {
			fd, dupErr = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0)
		}
	})
	if err != nil {
		return socket{}, err
	}
	if dupErr != nil {
		return socket{}, dupErr
	}
	if secure == nil {
		_ = c.Close()
	}
	return socket{fd: int32(fd), tls: secure}, nil
}

// acknowledged tells whether a client still has to acknowledge something, and how
// long ago it acknowledged anything. Linux itself tries for 15 minutes to reach one
// whose network has vanished. TCP_USER_TIMEOUT would also end clients that read
// slowly: it goes on from when their window closed first, whatever they read after
// that.
func acknowledged(fd int) (owes bool, ago time.Duration) {
	info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	if err != nil {
		return false, 0
	}
	return info.Unacked > 0 || info.Notsent_bytes > 0, time.Duration(info.Last_ack_recv) * time.Millisecond
}

// closeLost closes a TCP connection, with or without TLS over it, if the network
// of its client has vanished, and reports whether it has.
func closeLost(c net.Conn, s *silence) (vanished bool) {
	if secure, ok := c.(*tls.Conn); ok {
		c = secure.NetConn()
	}
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		return false
	}
	if raw, err := tcp.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) {
			owes, ago := acknowledged(int(fd))
			vanished = s.lost(owes, ago, now())
		})
	}
	if vanished {
		_ = tcp.SetLinger(0)
		_ = tcp.Close()
	}
	return vanished
}

// endResponse ends the response on a connection that no writer takes.
func endResponse(s socket) {
	_, _ = s.send([]byte(lastChunk), new(watchdog))
	s.finish(make([]byte, 4<<10))
}

// send writes what the socket has room for, without blocking. EAGAIN says that
// it has none, ENOBUFS that the system has none for any socket.
func (s *socket) send(b []byte, d *watchdog) (int, unix.Errno) {
	if s.tls != nil {
		return s.encrypt(b, d)
	}
	// sendto(2) itself: unix.Sendto does not tell how much it has written.
	n, _, errno := unix.Syscall6(unix.SYS_SENDTO, uintptr(s.fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}

// reportsFreeSpace reports whether the socket under c says how much of its buffer is
// free, and lifts the other limit that it may have. Sockets of other protocols,
// such as multipath TCP, count differently.
func reportsFreeSpace(c *tls.Conn) bool {
	tcp, ok := c.NetConn().(*net.TCPConn)
	if !ok {
		return false
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return false
	}
	can := false
	err = raw.Control(func(fd uintptr) {
		protocol, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PROTOCOL)
		s := socket{fd: int32(fd)}
		can = err == nil && protocol == unix.IPPROTO_TCP && s.free() > 0 &&
			unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, 1<<31-1) == nil
	})
	return err == nil && can
}

// encrypt writes no more than the socket is sure to have room for: a record that
// was written in part cannot be left until later, and the writer must not wait.
func (s *socket) encrypt(b []byte, d *watchdog) (int, unix.Errno) {
	if int(s.sure) < cost(len(b)) {
		s.sure = int32(min(s.free(), 1<<30))
	}
	n := min(len(b), fits(int(s.sure)))
	if n < min(len(b), leastPiece) {
		return 0, unix.EAGAIN
	}
	switch err := d.write(s.tls, b[:n]); {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return 0, unix.ENOBUFS
	case err != nil:
		return 0, unix.EPIPE
	}
	s.sure = max(0, s.sure-int32(cost(n)))
	return n, 0
}

// watchdog ends a write through TLS that blocks all the same, as one may if
// the system has no memory for sockets left. Deadlines would do it too, but each
// connection needs its own, which is then renewed all the time.
type watchdog struct {
	conn   atomic.Pointer[tls.Conn] // that is written to
	writes atomic.Uint64            // how many have begun and ended: odd during one
}

func (d *watchdog) write(c *tls.Conn, b []byte) error {
	d.conn.Store(c)
	d.writes.Add(1)
	_, err := c.Write(b)
	d.writes.Add(1)
	return err
}

// run ends each write that it finds twice, until done is closed.
func (d *watchdog) run(done <-chan struct{}) {
	look := time.NewTicker(longestWrite)
	defer look.Stop()
	for last := uint64(0); ; {
		select {
		case <-done:
			return
		case <-look.C:
		}
		c := d.conn.Load() // before the count, so that it is the connection of that write
		n := d.writes.Load()
		if n == last && n%2 == 1 {
			_ = c.SetWriteDeadline(time.Now())
		}
		last = n
	}
}

const (
	// longestWrite is how long a write through TLS may take, at least.
	longestWrite = 2 * time.Second
	// leastPiece is the fewest bytes that are worth a record.
	leastPiece = 16

	// What the system counts of a buffer: more than 1 KiB for each segment,
	// which a client can have as small as 36 bytes by never opening its
	// window any wider; some for the segment begun before; and TLS's own
	// bytes, 22 a record.
	perByte   = 40
	perWrite  = 2 << 10
	perRecord = 32
)

// cost returns more than writing n bytes uses up of a socket's buffer, and fits
// how many bytes can be written with so much of it free.
func cost(n int) int    { return perByte*(n+perRecord) + perWrite }
func fits(free int) int { return max(0, (free-perWrite)/perByte-perRecord) }

// free returns how much of a TCP socket's buffer is free now. That only grows while
// nothing is written, unless the system has no memory left for sockets.
func (s *socket) free() int {
	var info [9]uint32 // see SO_MEMINFO in sock_diag(7)
	size := uint32(unsafe.Sizeof(info))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(s.fd), unix.SOL_SOCKET, unix.SO_MEMINFO, uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return 0
	}
	const sndbuf, queued = 3, 5
	return int(info[sndbuf]) - int(info[queued])
}

// finish closes the connection after all that was sent. What the client has sent
// meanwhile is read, as the close would otherwise reset the connection under the
// last events.
func (s *socket) finish(scratch []byte) {
	if s.tls != nil && fits(s.free()) > leastPiece {
		_ = s.tls.CloseWrite()
	}
	for range 64 {
		if n, _ := unix.Read(int(s.fd), scratch); n < len(scratch) {
			break
		}
	}
	s.close()
}

// abort closes the connection of a client that takes nothing: the system need
// not keep for it what it has not taken.
func (s *socket) abort() {
	_ = unix.SetsockoptLinger(int(s.fd), unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	s.close()
}

func (s *socket) close() {
	if s.tls != nil {
		_ = s.tls.NetConn().Close()
		return
	}
	_ = unix.Close(int(s.fd))
}
