package soaconfig

import "regexp"

// A shape says what a value may be. The files are checked against shapes, the
// JSON Schemas for editors and the reference pages are written from them, and a
// test holds checks and schemas against each other.
type shape struct {
	kind kind
	anyKind,
	nullable bool

	keys     []key // object: what it may have
	byName   map[string]*shape
	open     bool     // object: other keys are fine, if they are not misspelled
	required []string // object
	names    *pattern // object that is a map: what its keys look like
	elem     *shape   // values of a map, items of a list
	tuple    []*shape // list: what each item is
	least    int      // list: items, at least
	most     int      // list: items, at most; 0 for any number
	unique   bool     // list

	min, max  *float64 // number, integer
	above     bool     // min itself is too small
	enum      []string // text
	pattern   *pattern // text
	multiline bool     // text: line breaks and tabs are fine

	either  []*shape // alternatives of different kinds
	orEmpty bool     // list: an empty one means none
	whole   string   // number: who takes only whole ones; a fraction is rounded up

	isLenient    bool // nothing runs otherwise because of it: what is wrong in it is Wrong, and counts as absent
	reserved     bool // not to be used yet: breaks whatever has it
	essentialKey bool // of a key: a slip of the pen in it, when it is missing, breaks what it belongs to
}

// A key is one key of an object.
type key struct {
	name  string
	shape *shape
	def   string // as the reference shows it; "" for none
	doc   string
}

// A pattern is a regular expression that means the same in Go and ECMAScript.
type pattern struct {
	re   *regexp.Regexp
	want string // what matches, as in "want …"
}

func newPattern(expr, want string) *pattern { return &pattern{regexp.MustCompile(expr), want} }

func aText() *shape     { return &shape{kind: text} }
func aNumber() *shape   { return &shape{kind: number} }
func anInteger() *shape { return &shape{kind: integer} }
func aBool() *shape     { return &shape{kind: boolean} }
func anything() *shape  { return &shape{anyKind: true} }

func reserved() *shape { return &shape{anyKind: true, reserved: true} }

func listOf(elem *shape) *shape { return &shape{kind: list, elem: elem} }
func tupleOf(items ...*shape) *shape {
	return &shape{kind: list, tuple: items, least: len(items), most: len(items)}
}

func anObject(keys ...key) *shape {
	s := &shape{kind: object, keys: keys, byName: make(map[string]*shape, len(keys))}
	for _, k := range keys {
		s.byName[k.name] = k.shape
	}
	return s
}

func mapOf(names *pattern, elem *shape) *shape { return &shape{kind: object, names: names, elem: elem} }
func eitherOf(shapes ...*shape) *shape         { return &shape{either: shapes} }

func oneOf(known ...string) *shape { return &shape{kind: text, enum: known} }

func (s *shape) matching(p *pattern) *shape   { s.pattern = p; return s }
func (s *shape) multiLine() *shape            { s.multiline = true; return s }
func (s *shape) from(min float64) *shape      { s.min = &min; return s }
func (s *shape) over(min float64) *shape      { s.min, s.above = &min, true; return s }
func (s *shape) upTo(max float64) *shape      { s.max = &max; return s }
func (s *shape) orNull() *shape               { s.nullable = true; return s }
func (s *shape) needs(keys ...string) *shape  { s.required = keys; return s }
func (s *shape) allowOthers() *shape          { s.open = true; return s }
func (s *shape) uniqueItems() *shape          { s.unique = true; return s }
func (s *shape) essential() *shape            { s.essentialKey = true; return s }
func (s *shape) roundedUp(who string) *shape  { s.whole = who; return s }
func (s *shape) orEmptyList() *shape          { s.orEmpty = true; return s }
func (s *shape) lenient() *shape              { s.isLenient = true; return s }
func (s *shape) items(least, most int) *shape { s.least, s.most = least, most; return s }

// aPort is a TCP port.
func aPort() *shape { return anInteger().from(1).upTo(65535) }

// longest is the longest duration that anybody may mean, in seconds: three years.
const longest = 1e8

func someSeconds() *shape { return aNumber().from(0).upTo(longest) }
func someMS() *shape {
	return aNumber().from(1).upTo(longest).roundedUp("HAProxy takes whole milliseconds")
}

// marathonSeconds is a duration that Marathon is sent.
func marathonSeconds() *shape {
	return aNumber().upTo(longest).roundedUp("Marathon takes whole seconds")
}

var (
	// noControls is for any text that is not checked more closely.
	noControls = newPattern(`^[^\x00-\x1f\x7f]*$`, "no control characters or line breaks")
	// someLines also has line breaks and tabs.
	someLines = newPattern(`^[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f]*$`, "no control characters")

	serviceName   = newPattern(`^[a-z0-9]([a-z0-9_-]*[a-z0-9])?$`, "lower-case letters, digits, - and _, with a letter or digit first and last")
	instanceName  = serviceName
	namespaceName = newPattern(`^[A-Za-z0-9]([A-Za-z0-9_-]*[A-Za-z0-9])?$`, "letters, digits, - and _, with a letter or digit first and last")
	registration  = newPattern(`^[a-z0-9]([a-z0-9_-]*[a-z0-9])?\.[A-Za-z0-9]([A-Za-z0-9_-]*[A-Za-z0-9])?$`, "SERVICE.NAMESPACE")
	groupName     = newPattern(`^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9_])?$`, "letters, digits, '.', - and _")
	groupFormat   = newPattern(`^[A-Za-z0-9{]([A-Za-z0-9._{}-]*[A-Za-z0-9_}])?$`, "letters, digits, '.', - and _, with {cluster}, {instance} or {service}")
	envName       = newPattern(`^[a-zA-Z_][a-zA-Z0-9_]*$`, "a name of letters, digits and _")
	word          = newPattern(`^[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?$`, "a word of letters, digits, '.', - and _")
	attribute     = newPattern(`^[^\x00-\x1f\x7f]*$`, "an attribute's value or a regular expression for it")
	attributeName = newPattern(`^@?[A-Za-z0-9_]([A-Za-z0-9_. -]*[A-Za-z0-9_])?$`, "the name of an attribute of agents")
	checkPath     = newPattern(`^$|^/[^\x00-\x1f\x7f]*$`, "a path that begins with /")
	locationType  = newPattern(`^[a-z0-9]([a-z0-9_-]*[a-z0-9])?$`, "a location type, such as region")
	location      = newPattern(`^[a-z0-9][a-z0-9_-]*:[A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?$`, "TYPE:LOCATION, such as region:uswest1")
	place         = newPattern(`^[A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?$`, "a location, such as uswest1")
	hostPath      = newPattern(`^/[^:\x00-\x1f\x7f]*$`, "an absolute path without colons")
	anyPath       = newPattern(`^[^:\x00-\x1f\x7f]+$`, "a path without colons")
	// uriPath is what may stand unquoted in an HAProxy config or a request line.
	uriPath      = newPattern(`^/([A-Za-z0-9._~+&,;=:@/?-]|%[0-9A-Fa-f]{2})*$`, "a path that begins with / and has no quotes, spaces, # or $")
	uriTemplate  = newPattern(`^(/[A-Za-z0-9._~-]*|/\{[A-Za-z_][A-Za-z0-9_]*\})+$`, "a path such as /users/{id}")
	headerName   = newPattern(`^[A-Za-z0-9][A-Za-z0-9_.-]*$`, "the name of an HTTP header")
	headerValue  = newPattern(`^[A-Za-z0-9 !&()*+,./:;<=>?@\[\]^_|~-]*$`, "no quotes, control characters, #, $, %, backslashes or braces, which mean something to HAProxy")
	haproxyTime  = newPattern(`^[0-9]{1,9}(us|ms|s|m|h|d)?$`, "a time such as 250ms")
	someTime     = newPattern(`^(-?[0-9]{1,9}(\.[0-9]+)?[smhdDWMY]?|([0-9]{1,9}[smhdDWMY])+)$`, "a time such as 10m or 1h30m")
	someURL      = newPattern(`^$|^(https?|ssh|git|file)://[^\x00-\x20\x7f"'<>\\]+$`, "a URL")
	gitURL       = newPattern(`^[^\x00-\x20\x7f-][^\x00-\x20\x7f]*$`, "a git URL or path without spaces")
	registryHost = newPattern(`^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?(:[0-9]{1,5})?(/[a-z0-9._/-]+)?$`, "HOST[:PORT]")
	image        = newPattern(`^[A-Za-z0-9]([A-Za-z0-9._/:@-]*[A-Za-z0-9])?$`, "an image, such as redis:7")
	portRange    = newPattern(`^[0-9]{1,5}(:[0-9]{1,5})?$`, "PORT or FIRST:LAST")
	cidrText     = newPattern(`^[0-9a-fA-F.:]+/[0-9]{1,3}$`, "a network such as 10.0.0.0/8")
)
