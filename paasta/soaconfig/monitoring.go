package soaconfig

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// Monitoring is monitoring.yaml and its overrides.
type Monitoring struct {
	Team                       string `soa:"team"`
	TeamUnknown                bool   // it is there and cannot be read: whoever forms an app keeps the last one
	Runbook                    string `soa:"runbook"`
	Tip                        string `soa:"tip"`
	Page                       bool   `soa:"page"`
	Ticket                     bool   `soa:"ticket"`
	NotificationEmail          string
	SlackChannels, IRCChannels []string
	AlertAfter                 time.Duration // 0: the default of what is watched
	Other                      map[string]any
}

// with returns m overlaid with what v says, which is nil when there is nothing
// or it cannot be read; problems are those of the file or entry that v is of,
// and path is where v is in it.
func (m Monitoring) with(v *value, problems Problems, path ...string) Monitoring {
	whole, team := dotted(slices.Clone(path)), dotted(append(slices.Clone(path), "team"))
	if slices.ContainsFunc(problems, func(p Problem) bool { return p.Key == team || v == nil && p.Key == whole }) {
		m.TeamUnknown = true
	}
	if v == nil {
		return m
	}
	if v.get("team").given() {
		m.TeamUnknown = false
	}
	decode(v, &m)
	if f := v.get("notification_email"); f.given() {
		m.NotificationEmail = strings.Join(f.people(), ",")
	}
	if f := v.get("slack_channels"); f.given() {
		m.SlackChannels = f.people()
	}
	if f := v.get("irc_channels"); f.given() {
		m.IRCChannels = f.people()
	}
	if f := v.get("alert_after"); f.given() {
		m.AlertAfter = f.someTime()
	}
	other := map[string]any{}
	maps.Copy(other, m.Other)
	budget := maxSteps
	for _, f := range v.fields {
		switch f.key.text {
		case "team", "runbook", "tip", "page", "ticket", "notification_email", "slack_channels", "irc_channels", "alert_after":
		default:
			other[f.key.text] = f.value.plainData(&budget)
		}
	}
	if len(other) > 0 {
		m.Other = other
	}
	return m
}

// people is a list of names; true and false name nobody.
func (v *value) people() []string {
	if v.kind == boolean {
		return nil
	}
	return v.texts()
}

// someTime reads "10m" or "1h30m", or a number as seconds.
func (v *value) someTime() time.Duration {
	if v.kind != text {
		return seconds(v.number)
	}
	total, rest := 0.0, v.text // whose pattern has passed
	for rest != "" {
		end := strings.IndexFunc(rest, unicode.IsLetter)
		unit := "s"
		if end < 0 {
			end = len(rest)
		} else {
			unit = rest[end : end+1]
		}
		n, _ := strconv.ParseFloat(rest[:end], 64)
		total += n * timeUnits[unit]
		rest = rest[min(end+1, len(rest)):]
	}
	return seconds(min(total, longest))
}

// timeUnits are those of Sensu's intervals, in seconds, and d.
var timeUnits = map[string]float64{
	"s": 1, "m": 60, "h": 3600, "d": 86400, "D": 86400, "W": 7 * 86400, "M": 30 * 86400, "Y": 365 * 86400,
}
