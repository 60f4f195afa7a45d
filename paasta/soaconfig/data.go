package soaconfig

// Data is a file of YAML, or of JSON, which is a part of it, as plain data whose
// places are known: what package sysconfig reads.
type Data struct {
	File   string
	Values map[string]any // maps, lists, texts, ints, float64s, bools and nils
	root   *value
}

// ReadData reads a file that is one object; one that is empty has no values.
func ReadData(file string) (Data, Problems) {
	d := Data{File: file, Values: map[string]any{}}
	switch doc := readDocument(file); {
	case doc.problem != nil:
		return d, Problems{*doc.problem}
	case doc.root == nil:
		return d, nil
	case doc.root.kind != object:
		return d, Problems{doc.root.problem(Broken, "", "is "+doc.root.describe()+", want KEY: VALUE in it")}
	default:
		d.root = doc.root
	}
	var c checker
	c.check(d.root, d.root, anyShape)
	if len(c.problems) == 0 {
		d.Values = openMap(d.root)
	}
	return d, c.problems
}

// At is where the key at path is, or the nearest that is there of those before it.
func (d Data) At(path ...string) Problem {
	p, v := Problem{File: d.File}, d.root
	for _, name := range path {
		if v == nil || v.find(name) == nil {
			break
		}
		f := v.find(name)
		p, v = f.key.problem(Broken, "", ""), f.value
	}
	return p
}
