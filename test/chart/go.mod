// Pins the CustomResourceDefinitions of Prometheus' operator; chart.test.ts applies them. Nothing of it is built.
module node-termination-controller/test/chart

go 1.25.0

require github.com/prometheus-operator/prometheus-operator v0.85.0
