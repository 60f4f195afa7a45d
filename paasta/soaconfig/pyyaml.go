package soaconfig

import (
	"math"
	"math/big"
	"regexp"
	"strconv"
	"strings"
)

// PaaSTA reads soa-configs with PyYAML, which knows YAML 1.1: it takes yes for
// true, 12:30 for 750 and 1e3 for a text. Text keys take the text as written,
// and number keys the number; where PyYAML's reading is another one, validate
// says so. These are the expressions of its resolver.
var (
	pyBool  = regexp.MustCompile(`^(?:yes|Yes|YES|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF)$`)
	pyInt   = regexp.MustCompile(`^(?:[-+]?0b[0-1_]+|[-+]?0[0-7_]+|[-+]?(?:0|[1-9][0-9_]*)|[-+]?0x[0-9a-fA-F_]+|[-+]?[1-9][0-9_]*(?::[0-5]?[0-9])+)$`)
	pyFloat = regexp.MustCompile(`^(?:[-+]?[0-9][0-9_]*\.[0-9_]*(?:[eE][-+][0-9]+)?|\.[0-9][0-9_]*(?:[eE][-+][0-9]+)?|` +
		`[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+\.[0-9_]*|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$`)
	pyNull = regexp.MustCompile(`^(?:~|null|Null|NULL|)$`)
	pyDate = regexp.MustCompile(`^(?:[0-9]{4}-[0-9]{2}-[0-9]{2}|` +
		`[0-9]{4}-[0-9][0-9]?-[0-9][0-9]?(?:[Tt]|[ \t]+)[0-9][0-9]?:[0-9]{2}:[0-9]{2}(?:\.[0-9]*)?(?:[ \t]*(?:Z|[-+][0-9][0-9]?(?::[0-9]{2})?))?)$`)
)

// A pyValue is what PyYAML makes of a plain scalar.
type pyValue struct {
	kind   kind
	number float64
	text   string // as Python's str prints it; for a text, the text
}

// pyyaml reads a scalar as PyYAML does.
func (v *value) pyyaml() pyValue {
	s := v.text
	switch {
	case !v.plain:
	case pyBool.MatchString(s):
		if isWord(s, append([]string{"true"}, yesWords...)) {
			return pyValue{boolean, 1, "True"}
		}
		return pyValue{boolean, 0, "False"}
	case pyFloat.MatchString(s):
		f := pyNumber(s)
		return pyValue{number, f, pyRepr(f)}
	case pyInt.MatchString(s):
		n := new(big.Int)
		digits := strings.ToLower(strings.ReplaceAll(s, "_", ""))
		switch bare := strings.TrimLeft(digits, "+-"); {
		case strings.Contains(bare, ":"):
			n.SetInt64(int64(pyNumber(s)))
		case len(bare) > 1 && bare[0] == '0' && bare[1] != 'x' && bare[1] != 'b':
			n.SetString(bare, 8)
		default:
			n.SetString(bare, 0)
		}
		if strings.HasPrefix(digits, "-") && n.Sign() > 0 {
			n.Neg(n)
		}
		f, _ := new(big.Float).SetInt(n).Float64()
		return pyValue{integer, f, n.String()}
	case pyNull.MatchString(s):
		return pyValue{null, 0, "None"}
	case pyDate.MatchString(s):
		return pyValue{bad, 0, "a date"}
	case s == "=":
		return pyValue{bad, 0, "an error"}
	}
	return pyValue{text, 0, s}
}

// pyNumber reads what pyFloat lets through, and integers in base 60.
func pyNumber(s string) float64 {
	s = strings.ToLower(strings.ReplaceAll(s, "_", ""))
	sign := 1.0
	if strings.HasPrefix(s, "-") {
		sign = -1
	}
	s = strings.TrimLeft(s, "+-")
	switch s {
	case ".inf":
		return math.Inf(int(sign))
	case ".nan":
		return math.NaN()
	}
	n := 0.0
	for part := range strings.SplitSeq(s, ":") {
		digit, _ := strconv.ParseFloat(part, 64)
		n = 60*n + digit
	}
	return sign * n
}

// pyRepr is a float as Python prints it, for those of common size.
func pyRepr(f float64) string {
	s := strconv.FormatFloat(f, 'f', -1, 64)
	if math.Abs(f) >= 1e16 || f != 0 && math.Abs(f) < 1e-4 {
		s = strconv.FormatFloat(f, 'e', -1, 64)
	} else if !strings.Contains(s, ".") && !math.IsInf(f, 0) && !math.IsNaN(f) {
		s += ".0"
	}
	return s
}

// otherwise says how PaaSTA reads a text; "" if it is the same.
func (v *value) otherwise() string {
	p := v.pyyaml()
	switch {
	case p.kind == text:
		return ""
	case p.text == v.text:
		return "PaaSTA reads this as the number " + p.text + ": put it in quotes"
	}
	return "PaaSTA reads this as " + p.text + ": put it in quotes"
}
