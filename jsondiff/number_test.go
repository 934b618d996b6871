package jsondiff

import (
	"math/big"
	"math/rand"
	"strconv"
	"strings"
	"testing"
)

func TestEqualNumber(t *testing.T) {
	nines, million := strings.Repeat("9", 30), strings.Repeat("0", 1_000_000)
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"1", "1", true}, {"1", "1.0", true}, {"1", "1.000", true}, {"1", "10e-1", true},
		{"0.1", "1e-1", true}, {"100", "1e2", true}, {"100", "1E+2", true}, {"100", "1e+0002", true},
		{"1E400", "10E399", true}, {"1E400", "1E401", false}, {"1E400", "0.1E401", true},
		{"-0", "0", true}, {"0", "0.0", true}, {"0e5", "-0.00e-7", true}, {"0", "1e-400", false},
		{"1", "-1", false}, {"-1.50", "-15e-1", true}, {"12", "1.2", false}, {"12", "120", false},
		{"1.0203", "10203e-4", true}, {"1.0203", "1.203", false}, {"0.00123", "123e-5", true}, {"0.5", "5", false},
		{"12345678901234567890", "12345678901234567891", false},
		{"12345678901234567890", "1234567890123456789e1", true},
		{"0.1", "0.1000000000000000055511151231257827", false},
		{"1e" + nines, "10e" + nines[:29] + "8", true},
		{"1e" + nines, "0.1e1" + strings.Repeat("0", 30), true},
		{"1e-" + nines, "10e-1" + strings.Repeat("0", 30), true},
		{"1e-" + nines, "1e" + nines, false},
		{"1e1" + strings.Repeat("0", 18), "10e" + strings.Repeat("9", 18), true},
		{"1e1" + strings.Repeat("0", 17), "10e" + strings.Repeat("9", 17), true},
		{"1e-1" + strings.Repeat("0", 18), "0.1e-" + strings.Repeat("9", 18), true},
		{"1" + million, "1e1000000", true},
		{"1" + million, "1e1000001", false},
		{"1e" + million + "1", "10", true},
		{"1", "1e4294967296", false}, {"1", "1e-4294967296", false}, {"1e2147483648", "1e-2147483648", false},
	} {
		if got := equalNumber([]byte(c.a), []byte(c.b)); got != c.want {
			t.Errorf("equalNumber(%.60s, %.60s) = %v", c.a, c.b, got)
		}
		if got := equalNumber([]byte(c.b), []byte(c.a)); got != c.want {
			t.Errorf("equalNumber(%.60s, %.60s) = %v", c.b, c.a, got)
		}
	}
}

// Random literals with small exponents, against exact fractions.
func TestEqualNumberRandom(t *testing.T) {
	r := rand.New(rand.NewSource(1))
	literal := func() string {
		s := ""
		if r.Intn(4) == 0 {
			s = "-"
		}
		if r.Intn(3) == 0 {
			s += "0"
		} else {
			s += strconv.Itoa(1+r.Intn(2)) + strings.Repeat("0", r.Intn(3))
		}
		if r.Intn(2) == 0 {
			s += "." + strings.Repeat("0", r.Intn(3)) + strconv.Itoa(r.Intn(3)) + strings.Repeat("0", r.Intn(2))
		}
		if r.Intn(2) == 0 {
			s += "e" + strconv.Itoa(r.Intn(7)-3)
		}
		return s
	}
	for range 200_000 {
		a, b := literal(), literal()
		x, _ := new(big.Rat).SetString(a)
		y, _ := new(big.Rat).SetString(b)
		if got, want := equalNumber([]byte(a), []byte(b)), x.Cmp(y) == 0; got != want {
			t.Fatalf("equalNumber(%s, %s) = %v, want %v", a, b, got, want)
		}
	}
}
