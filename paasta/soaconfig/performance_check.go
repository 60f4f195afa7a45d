package soaconfig

import "path/filepath"

// PerformanceCheck is performance-check.yaml: where to ask for a load test, and
// with which parameters.
type PerformanceCheck struct {
	Endpoint   string // URL
	Parameters map[string]any
}

// ReadPerformanceCheck reads the performance-check.yaml of a service's
// directory. found is false when there is none.
func ReadPerformanceCheck(dir string) (c PerformanceCheck, found bool, err error) {
	d := readDocument(filepath.Join(dir, "performance-check.yaml"))
	switch {
	case d.problem != nil:
		return c, true, Problems{*d.problem}
	case !d.exists:
		return c, false, nil
	case d.root == nil || d.root.kind != object:
		return c, true, Problems{{File: d.file, Line: 1, Column: 1, Text: "want an object with the key endpoint"}}
	}
	c.Parameters = openMap(d.root)
	var isText bool
	if c.Endpoint, isText = c.Parameters["endpoint"].(string); !isText || c.Endpoint == "" {
		return c, true, Problems{{File: d.file, Line: 1, Column: 1, Key: "endpoint", Text: "is missing: the URL that is asked for a performance check"}}
	}
	delete(c.Parameters, "endpoint")
	return c, true, nil
}
