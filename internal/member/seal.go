package member

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
)

// Keys are derived from the cluster's secret, each with a label of its own, so
// that none of them reveals another.
const (
	subjectsLabel  = "poll_sse cluster v1 subjects"
	documentsLabel = "poll_sse cluster v1 documents "
)

// subject names a key at the engine: 128 bits that say nothing of what it
// stands for. With a secret, nobody without it can tell which of two known
// documents is meant.
func subject(secret []byte, key []byte) string {
	mac := hmac.New(sha256.New, derive(secret, subjectsLabel))
	mac.Write(key)
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil)[:16])
}

func derive(secret []byte, label string) []byte {
	key, err := hkdf.Key(sha256.New, secret, nil, label, 32)
	if err != nil {
		panic("BUG: " + err.Error())
	}
	return key
}

// seal keeps what is written for one subject from everybody without the secret:
// it is encrypted, and bound to its subject and to its place there, by
// AES-256-GCM with random nonces (NIST SP 800-38D). A key is one subject's, so
// the 2^32 messages that random nonces allow are never reached. Without a
// secret, nothing is encrypted.
type seal struct {
	subject string
	aead    cipher.AEAD // nil without a secret
}

func newSeal(secret []byte, subject string) seal {
	if secret == nil {
		return seal{subject: subject}
	}
	block, err := aes.NewCipher(derive(secret, documentsLabel+subject))
	if err != nil {
		panic("BUG: " + err.Error())
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic("BUG: " + err.Error())
	}
	return seal{subject, aead}
}

// Places of an envelope: no message can be passed off as what is stored.
const (
	placeMessage  = "message"
	placeRecord   = "record"
	placeDocument = "document"
)

func (s seal) close(place string, e *envelope) []byte {
	plain := e.encode()
	if s.aead == nil {
		return plain
	}
	return s.aead.Seal(nil, nil, plain, []byte(place+" "+s.subject))
}

func (s seal) open(place string, b []byte) (*envelope, error) {
	if s.aead != nil {
		var err error
		if b, err = s.aead.Open(nil, nil, b, []byte(place+" "+s.subject)); err != nil {
			return nil, err
		}
	}
	return decode(b)
}
