-- filter_on_a_nested_field
SELECT b.price FROM bid b WHERE b.channel = 'Google'
-- common_table_expression
WITH dear AS (SELECT auction, price FROM bid WHERE price > 1000), named (a, p) AS (SELECT * FROM dear)
SELECT a, p * 2 AS twice FROM named WHERE p < 100000
-- union_of_views
SELECT id, name FROM person UNION ALL SELECT id, itemName FROM auction
-- union_distinct
SELECT auction FROM bid UNION SELECT id FROM auction
-- union_of_different_types
SELECT event_type FROM events UNION ALL SELECT price FROM bid
-- distinct
SELECT DISTINCT channel FROM bid
-- count_of_everything
SELECT COUNT(*) FROM bid
-- group_by_with_having
SELECT auction, COUNT(*) AS n, SUM(price) AS s, MAX(price) - MIN(price) FROM bid GROUP BY auction HAVING COUNT(*) > 3
-- group_by_an_expression
SELECT MOD(auction, 10) AS bucket, AVG(price) FROM bid GROUP BY MOD(auction, 10)
-- group_by_of_a_group_by
SELECT n, COUNT(*) FROM (SELECT auction, COUNT(*) AS n FROM bid GROUP BY auction) GROUP BY n
-- distinct_and_filtered_aggregates
SELECT channel, COUNT(DISTINCT bidder), COUNT(DISTINCT bidder) FILTER (WHERE price > 10), SUM(price) FILTER (WHERE price > 10) FROM bid GROUP BY channel
-- tumble_without_key
SELECT window_start, window_end, COUNT(*), SUM(price) FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(`dateTime`), INTERVAL '1' MINUTE)) GROUP BY window_start, window_end
-- tumble_with_distinct
SELECT window_end, channel, COUNT(DISTINCT bidder) FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(`dateTime`), INTERVAL '1' MINUTE)) GROUP BY window_start, window_end, channel
-- tumble_of_tumble
SELECT window_start, window_end, SUM(s) FROM TABLE(TUMBLE(TABLE minutes, DESCRIPTOR(wt), INTERVAL '1' HOUR)) GROUP BY window_start, window_end
-- cumulate_with_offset
SELECT auction, window_start, window_end, MAX(price) FROM TABLE(CUMULATE(TABLE bid, DESCRIPTOR(`dateTime`), INTERVAL '1' MINUTE, INTERVAL '1' HOUR, INTERVAL '5' SECOND)) GROUP BY auction, window_start, window_end
-- windows_without_aggregate
SELECT auction, window_start, window_time FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(`dateTime`), INTERVAL '1' MINUTE)) WHERE price > 5
-- group_by_the_end_of_a_window_only
SELECT window_end, COUNT(*) FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(`dateTime`), INTERVAL '1' MINUTE)) GROUP BY window_end
-- argument_that_reads_the_window
SELECT auction, window_start, window_end, MAX(window_end) FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(`dateTime`), INTERVAL '1' MINUTE)) GROUP BY auction, window_start, window_end
-- left_join_of_windows
SELECT p.id, a.seller FROM (SELECT * FROM TABLE(TUMBLE(TABLE person, DESCRIPTOR(`dateTime`), INTERVAL '10' SECOND))) p
LEFT JOIN (SELECT * FROM TABLE(TUMBLE(TABLE auction, DESCRIPTOR(`dateTime`), INTERVAL '10' SECOND))) a
ON p.window_start = a.window_start AND p.window_end = a.window_end AND p.id + 1 = a.seller AND p.state <> 'OR'
-- join_of_windows_with_a_comma
SELECT p.id, a.seller FROM TABLE(TUMBLE(TABLE person, DESCRIPTOR(`dateTime`), INTERVAL '10' SECOND)) p,
TABLE(TUMBLE(TABLE auction, DESCRIPTOR(`dateTime`), INTERVAL '10' SECOND)) a
WHERE p.window_start = a.window_start AND p.window_end = a.window_end AND p.id = a.seller AND p.state = 'OR' AND a.reserve > 5
-- condition_on_a_computed_column
SELECT * FROM (SELECT auction, UPPER(channel) AS channel FROM bid WHERE price > 7) WHERE channel <> 'GOOGLE' AND auction > 3
-- literals_have_types
SELECT 1, 3000000000, 0.908, 1e0, 'text', TRUE, DATE '2020-01-31', TIMESTAMP '2020-01-31 10:00:00', INTERVAL '1' DAY, NULL FROM bid
