// Prometheus' own judgement of what we show it, ask of it and alert on; prometheus.test.ts runs it.
// Each test reads what INPUT names.
package prometheus_test

import (
	"encoding/json"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/promql/promqltest"
)

func input(t *testing.T) string {
	path := os.Getenv("INPUT")
	if path == "" {
		t.Skip("INPUT names no file")
	}
	return path
}

// What promtool check metrics does: an exposition in the text format.
func TestMetrics(t *testing.T) {
	file, err := os.Open(input(t))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	problems, err := promlint.New(file).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, problem := range problems {
		t.Errorf("%s: %s", problem.Metric, problem.Text)
	}
}

// What promtool check rules does: a file of rule groups.
func TestRules(t *testing.T) {
	_, errs := rulefmt.ParseFile(input(t), false, model.LegacyValidation, parser.NewParser(parser.Options{}), slog.Default())
	for _, err := range errs {
		t.Error(err)
	}
}

// A list of expressions, in JSON.
func TestQueries(t *testing.T) {
	text, err := os.ReadFile(input(t))
	if err != nil {
		t.Fatal(err)
	}
	var queries []string
	if err := json.Unmarshal(text, &queries); err != nil {
		t.Fatal(err)
	}
	for _, query := range queries {
		if _, err := parser.NewParser(parser.Options{}).ParseExpr(query); err != nil {
			t.Errorf("%s: %v", query, err)
		}
	}
}

// Series, expressions and what they come to, in the language of Prometheus' own tests.
func TestEvaluation(t *testing.T) {
	text, err := os.ReadFile(input(t))
	if err != nil {
		t.Fatal(err)
	}
	engine := promqltest.NewTestEngine(t, false, 5*time.Minute, promqltest.DefaultMaxSamplesPerQuery)
	promqltest.RunTest(t, string(text), engine)
}
