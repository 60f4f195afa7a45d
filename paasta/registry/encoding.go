package registry

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
	"unique"
)

// Limits of what is believed. They are far above what nerve or we write.
const (
	maxText   = 64 << 10 // bytes of an entry
	maxName   = 255
	maxLabels = 100
	maxLabel  = 1024 // bytes of a key, a value
	maxWeight = 256  // HAProxy's
)

// wire is the JSON in nerve's key order.
type wire struct {
	Host          string            `json:"host"`
	Port          int               `json:"port"`
	Name          string            `json:"name,omitempty"`
	Weight        int               `json:"weight"`
	ServerOptions string            `json:"haproxy_server_options,omitempty"`
	Labels        map[string]string `json:"labels,omitempty"`
}

// Encode returns the text of e, nerve's JSON: compact, keys in nerve's order,
// labels sorted, the weight always written. Equal entries give equal bytes, in
// every release.
func Encode(e Entry) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(wire{e.Host, e.Port, e.Name, e.Weight, e.ServerOptions, e.Labels}); err != nil {
		panic(err) // strings and numbers can always be written
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// Decode reads the text of an entry, whoever wrote it. What it accepts passes
// Check; a missing weight is 10, one that is beyond HAProxy's is as much as
// HAProxy takes, and a port may be text. nerve writes labels as its config has
// them: one that is a number or true is its text. Unknown keys are ignored, since
// nerve may learn new ones.
func Decode(text []byte) (Entry, error) {
	if len(text) > maxText {
		return Entry{}, fmt.Errorf("%d bytes are too long for an entry", len(text))
	}
	if !utf8.Valid(text) {
		return Entry{}, errors.New("entry is not UTF-8")
	}
	if len(bytes.TrimSpace(text)) == 0 {
		return Entry{}, errors.New("entry is empty")
	}
	var keys map[string]json.RawMessage // a struct would also take "HOST"
	if err := json.Unmarshal(text, &keys); err != nil {
		return Entry{}, fmt.Errorf("entry is no JSON object: %s", reason(err))
	}
	for _, key := range []string{"host", "port"} {
		if v, ok := keys[key]; !ok || string(v) == "null" {
			return Entry{}, fmt.Errorf("entry has no %s", key)
		}
	}
	e := Entry{Weight: DefaultWeight}
	var labels map[string]scalar
	err := errors.Join(
		value(keys, "host", &e.Host),
		number(keys, "port", &e.Port),
		value(keys, "name", &e.Name),
		number(keys, "weight", &e.Weight),
		value(keys, "haproxy_server_options", &e.ServerOptions),
		value(keys, "labels", &labels))
	if err != nil {
		return Entry{}, err
	}
	for key, label := range labels {
		if e.Labels == nil {
			e.Labels = make(map[string]string, len(labels))
		}
		text := string(label)
		if key != LabelTaskID {
			text = shared(text)
		}
		e.Labels[shared(key)] = text
	}
	e.Weight = min(e.Weight, maxWeight)
	if err := Check(e); err != nil {
		return Entry{}, err
	}
	e.Host, e.Name = shared(e.Host), shared(e.Name)
	return e, nil
}

// A scalar is text, or a number, true or false as their text; null is "".
type scalar string

// UnmarshalJSON implements json.Unmarshaler.
func (s *scalar) UnmarshalJSON(text []byte) error {
	switch text[0] {
	case '"':
		return json.Unmarshal(text, (*string)(s))
	case '{', '[':
		return errors.New("a label is no text")
	case 'n': // null
		return nil
	}
	*s = scalar(text)
	return nil
}

// shared returns s as one string for all entries that say the same: a host that
// reads thousands of them keeps few texts.
func shared(s string) string { return unique.Make(s).Value() }

// value reads one key; absent and null leave to as it is.
func value(keys map[string]json.RawMessage, key string, to any) error {
	text, ok := keys[key]
	if !ok || string(text) == "null" {
		return nil
	}
	if err := json.Unmarshal(text, to); err != nil {
		return fmt.Errorf("%s: %s", key, reason(err))
	}
	return nil
}

// reason is what is wrong with JSON, without Go's words for it.
func reason(err error) string {
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return "it is of type " + wrong.Value
	}
	return err.Error()
}

// number reads a whole number, be it written as 1, "1" or 1.0.
func number(keys map[string]json.RawMessage, key string, to *int) error {
	text, ok := keys[key]
	if !ok || string(text) == "null" {
		return nil
	}
	var s string
	if err := json.Unmarshal(text, &s); err != nil {
		s = strings.TrimSuffix(string(text), ".0")
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		return fmt.Errorf("%s: %.40q is no whole number", key, text)
	}
	*to = n
	return nil
}

// Check says what is wrong with an entry, whose parts end up in a config: host
// must be an address or a host name, port and weight in range, and no text may
// hold control characters; a name holds no spaces either.
func Check(e Entry) error {
	if !isHost(e.Host) {
		return fmt.Errorf("host %.80q is neither an address nor a host name", e.Host)
	}
	if e.Port < 1 || e.Port > 65535 {
		return fmt.Errorf("port %d is not in 1..65535", e.Port)
	}
	if e.Weight < 0 || e.Weight > maxWeight {
		return fmt.Errorf("weight %d is not in 0..%d", e.Weight, maxWeight)
	}
	if len(e.Name) > maxName || strings.ContainsFunc(e.Name, unicode.IsSpace) || !isText(e.Name) {
		return fmt.Errorf("name %.80q holds spaces or control characters, or is too long", e.Name)
	}
	if len(e.ServerOptions) > maxLabel || !isText(e.ServerOptions) {
		return fmt.Errorf("haproxy_server_options %.80q holds control characters or is too long", e.ServerOptions)
	}
	if len(e.Labels) > maxLabels {
		return fmt.Errorf("%d labels are more than %d", len(e.Labels), maxLabels)
	}
	for key, label := range e.Labels {
		if len(key) > maxLabel || len(label) > maxLabel || !isText(key) || !isText(label) {
			return fmt.Errorf("label %.80q: %.80q holds control characters or is too long", key, label)
		}
	}
	return nil
}

func isText(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl)
}

func isHost(s string) bool {
	if a, err := netip.ParseAddr(s); err == nil {
		return a.Zone() == ""
	}
	if len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(strings.TrimSuffix(s, "."), ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for _, r := range []byte(label) {
			if r != '-' && r != '_' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') {
				return false
			}
		}
	}
	return true
}

// Prefixes of names that carry their entry: nerve's, and what stands before it
// while the entry drains. synapse ignores a weight of 0, so that a draining entry
// must be none for it: under a name that it does not decode it reads the data,
// which is not that of an entry either, and leaves the child out.
const (
	pathPrefix  = "base64_"
	drainPrefix = "draining_"
)

// maxSequence is the longest number at the end of a name, as ZooKeeper's.
const maxSequence = 10

// NodeName returns the name of e's path-encoded node,
// base64_<length>_<URL-safe base64 of the JSON>_<sequence>, after draining_ for an
// entry of weight 0. Equal entries differ at most in their sequence: ten digits,
// which tell synapse's leader election who came first.
func NodeName(e Entry, sequence int64) string {
	return namePrefix(e) + fmt.Sprintf("%0*d", maxSequence, sequence)
}

// namePrefix is a node's name without its sequence.
func namePrefix(e Entry) string {
	b := base64.URLEncoding.EncodeToString(Encode(e))
	name := pathPrefix + strconv.Itoa(len(b)) + "_" + b + "_"
	if e.Weight == 0 {
		return drainPrefix + name
	}
	return name
}

// data is what a node holds besides its name: the JSON, as nerve has it. That of
// an entry that drains is inside another object.
func data(e Entry) []byte {
	text := Encode(e)
	if e.Weight == 0 {
		return slices.Concat([]byte(`{"draining":`), text, []byte("}"))
	}
	return text
}

// Sequence returns the number at the end of a node's name or path; ok is false
// when there is none.
func Sequence(name string) (n int64, ok bool) {
	digits := name[strings.LastIndexByte(name, '_')+1:]
	if len(digits) == len(name) || digits == "" || len(digits) > maxSequence || strings.Trim(digits, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	return n, err == nil
}

// after returns the sequence of a node that comes after all of names.
func after(names []string) int64 {
	next := int64(0)
	for _, name := range names {
		if n, ok := Sequence(name); ok {
			next = max(next, n+1)
		}
	}
	return next
}

// decodeName reads a path-encoded name; ok is false when name is none, and its
// node's data must be read.
func decodeName(name string) (text []byte, ok bool) {
	rest, ok := strings.CutPrefix(strings.TrimPrefix(name, drainPrefix), pathPrefix)
	if !ok {
		return nil, false
	}
	digits, rest, ok := strings.Cut(rest, "_")
	if !ok {
		return nil, false
	}
	length, err := strconv.Atoi(digits)
	if err != nil || length < 0 || length >= len(rest) || rest[length] != '_' {
		return nil, false
	}
	if strings.Trim(rest[length+1:], "0123456789") != "" {
		return nil, false
	}
	text, err = base64.URLEncoding.Strict().DecodeString(rest[:length])
	return text, err == nil
}
