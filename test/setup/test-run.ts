/** Environment variable that names a test run to its workers. */
export const runVariable = 'NTC_TEST_RUN';
/** The same to the processes that tests start, and to those that they start. */
export const startedByVariable = 'NTC_STARTED_BY_TEST_RUN';
