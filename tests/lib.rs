//! Nothing to export: the tests are in tests/suite.
