package delivery

import "crypto/tls"

// socket is a connection that was taken over.
type socket struct {
	fd int32
	// sure is how much more of its buffer a socket with TLS may use up before
	// it is asked again how much is free.
	sure int32
	// tls encrypts what is written, and owns the descriptor; nil if there is
	// no TLS.
	tls *tls.Conn
}
