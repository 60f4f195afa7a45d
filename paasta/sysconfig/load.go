package sysconfig

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/go-viper/mapstructure/v2"
	"github.com/spf13/viper"
)

// DefaultDir is where the system config is when $PAASTA_SYSTEM_CONFIG_DIR says
// nothing else.
const DefaultDir = "/etc/paasta"

// Dir returns the directory that Load reads.
func Dir() string {
	if dir := os.Getenv("PAASTA_SYSTEM_CONFIG_DIR"); dir != "" {
		return dir
	}
	return DefaultDir
}

// Load reads the system config of this machine. Without DefaultDir it is empty;
// a directory that $PAASTA_SYSTEM_CONFIG_DIR names must be there. A misspelled key,
// or two files that set one key differently, is an error that names the places.
// The error holds every mistake.
func Load() (Config, error) {
	dir := Dir()
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) && dir == os.Getenv("PAASTA_SYSTEM_CONFIG_DIR") {
		return Config{}, fmt.Errorf("PAASTA_SYSTEM_CONFIG_DIR: %s: no such directory", dir)
	}
	return LoadDir(dir)
}

// Notes lists the keys of the system config that are no mistakes and that nothing
// reads, with their places: PaaSTA's own /etc/paasta has many.
func Notes() []string {
	s, _ := readDir(Dir()) // what is wrong, Load says
	return s.notes
}

// LoadDir is Load for the given directory; one that is not there is empty. PAASTA_… variables of the process
// count here too.
func LoadDir(dir string) (Config, error) {
	settings, err := readDir(dir)
	if err != nil {
		return Config{}, err
	}
	if err := typed(settings.values, reflect.TypeFor[Config]()); err != nil {
		return Config{}, fmt.Errorf("%s: %w", dir, err)
	}
	v := viper.New()
	var bad []error
	for _, s := range leaves(reflect.TypeFor[Config](), nil) {
		key := strings.Join(s.path, ".")
		if d, ok := defaults[key]; ok {
			v.SetDefault(key, d)
		}
		if err := s.checkVariable(); err != nil {
			bad = append(bad, err)
		}
		if err := v.BindEnv(key, s.env()); err != nil {
			return Config{}, fmt.Errorf("bind %s: %w", s.env(), err)
		}
	}
	if err := errors.Join(bad...); err != nil {
		return Config{}, err
	}
	if err := v.MergeConfigMap(settings.values); err != nil {
		return Config{}, fmt.Errorf("%s: merge: %w", dir, err)
	}
	var c Config
	if err := v.UnmarshalExact(&c, viper.DecodeHook(mapstructure.ComposeDecodeHookFunc(durationHook, textHook))); err != nil {
		return Config{}, fmt.Errorf("system config (files in %s, PAASTA_… variables): %w", dir, err)
	}
	if err := c.complete(); err != nil {
		return Config{}, err
	}
	return c, errors.Join(settings.locate(c.check())...)
}

// typed gives maps and lists the types that they have in Config. Viper folds the
// keys of maps whose type it does not know, and a cluster may be called
// "Norcal.prod".
func typed(values map[string]any, t reflect.Type) error {
	for f := range t.Fields() {
		key := keyOf(f)
		value, ok := values[key]
		switch kind := f.Type.Kind(); {
		case !ok:
		case kind == reflect.Struct:
			if err := typed(value.(map[string]any), f.Type); err != nil {
				return err
			}
		case kind == reflect.Map || kind == reflect.Slice:
			x := reflect.New(f.Type)
			if err := mapstructure.Decode(value, x.Interface()); err != nil {
				return fmt.Errorf("%s: %w", key, err)
			}
			values[key] = x.Elem().Interface()
		}
	}
	return nil
}

// durationHook reads "90s", and a bare number as PaaSTA's seconds.
func durationHook(_, to reflect.Type, data any) (any, error) {
	if to != reflect.TypeFor[time.Duration]() {
		return data, nil
	}
	return duration(data)
}

func duration(data any) (time.Duration, error) {
	switch d := data.(type) {
	case time.Duration:
		return d, nil
	case int:
		return time.Duration(d) * time.Second, nil
	case float64:
		return time.Duration(d * float64(time.Second)), nil
	case string:
		parsed, err := time.ParseDuration(d)
		if seconds, numErr := strconv.Atoi(d); numErr == nil { // of a variable
			return duration(seconds)
		}
		if err != nil {
			return 0, fmt.Errorf("%q is no duration (want 90s, 10m, …)", d)
		}
		return parsed, nil
	}
	return 0, fmt.Errorf("%v is no duration (want 90s, 10m, …)", data)
}

// textHook reads the text of a variable into what is not text: JSON for maps
// and lists, or, for lists of texts, words between commas.
func textHook(from, to reflect.Type, data any) (any, error) {
	if from.Kind() != reflect.String || to.Kind() != reflect.Map && to.Kind() != reflect.Slice {
		return data, nil
	}
	text := strings.TrimSpace(data.(string))
	if strings.HasPrefix(text, "{") || strings.HasPrefix(text, "[") {
		var value any
		if err := json.Unmarshal([]byte(text), &value); err != nil {
			return nil, fmt.Errorf("is %q, which is no JSON: %w", text, err)
		}
		return value, nil
	}
	if to != reflect.TypeFor[[]string]() {
		if to.Kind() == reflect.Map {
			return nil, fmt.Errorf(`is %q, want a JSON object such as {"a": "b"}`, text)
		}
		return nil, fmt.Errorf("is %q, want a JSON list", text)
	}
	var words []string
	for word := range strings.SplitSeq(text, ",") {
		if word = strings.TrimSpace(word); word != "" {
			words = append(words, word)
		}
	}
	return words, nil
}
