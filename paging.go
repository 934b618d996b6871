package pollsse

import (
	"cmp"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"

	"github.com/caddyserver/caddy/v2"
)

// Bounds of the lists that the admin API returns, in rows.
const (
	defaultRows = 100
	maxRows     = 1000
)

// countParam reads a query parameter that bounds how many rows an answer has.
func countParam(query url.Values, name string, byDefault int) (int, error) {
	text := query.Get(name)
	if text == "" {
		return byDefault, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > maxRows {
		return 0, caddy.APIError{HTTPStatus: http.StatusBadRequest, Err: fmt.Errorf("%s: need a number from 1 to %d", name, maxRows)}
	}
	return n, nil
}

// page returns the rows that a request asks for by limit and after, in the order of
// their keys. If there are more, a field Link of the answer leads to them (RFC 8288,
// relation next). A row that comes or goes between two pages moves no other.
func page[T any](w http.ResponseWriter, r *http.Request, rows []T, key func(T) string) ([]T, error) {
	query := r.URL.Query()
	limit, err := countParam(query, "limit", defaultRows)
	if err != nil {
		return nil, err
	}
	after, err := base64.RawURLEncoding.DecodeString(query.Get("after"))
	if err != nil {
		return nil, caddy.APIError{HTTPStatus: http.StatusBadRequest, Err: errors.New("after: need it as in the field Link of the page before")}
	}
	slices.SortFunc(rows, func(a, b T) int { return cmp.Compare(key(a), key(b)) })
	if len(after) > 0 {
		at, found := slices.BinarySearchFunc(rows, string(after), func(row T, after string) int { return cmp.Compare(key(row), after) })
		if found {
			at++
		}
		rows = rows[at:]
	}
	if len(rows) <= limit {
		return rows, nil
	}
	rows = rows[:limit]
	query.Set("after", base64.RawURLEncoding.EncodeToString([]byte(key(rows[limit-1]))))
	w.Header().Set("Link", "<"+r.URL.Path+"?"+query.Encode()+`>; rel="next"`)
	return rows, nil
}
