-- q0
`auction` BIGINT, `bidder` BIGINT, `price` BIGINT, `dateTime` TIMESTAMP(3), `extra` STRING
SELECT auction, bidder, price, `dateTime`, extra FROM bid
-- q1
`auction` BIGINT, `bidder` BIGINT, `price` DECIMAL(23,3), `dateTime` TIMESTAMP(3), `extra` STRING
SELECT auction, bidder, 0.908 * price, `dateTime`, extra FROM bid
-- q2
`auction` BIGINT, `price` BIGINT
SELECT auction, price FROM bid WHERE MOD(auction, 123) = 0
-- q5
`auction` BIGINT, `num` BIGINT
SELECT x.auction, x.num FROM (SELECT auction, COUNT(*) AS num, window_start AS ws, window_end AS we FROM TABLE(HOP(TABLE bid,
DESCRIPTOR(`dateTime`), INTERVAL '2' SECOND, INTERVAL '10' SECOND)) GROUP BY auction, window_start, window_end) x JOIN (SELECT MAX(num) AS
maxn, ws, we FROM (SELECT COUNT(*) AS num, window_start AS ws, window_end AS we FROM TABLE(HOP(TABLE bid, DESCRIPTOR(`dateTime`), INTERVAL
'2' SECOND, INTERVAL '10' SECOND)) GROUP BY auction, window_start, window_end) GROUP BY ws, we) m ON x.ws = m.ws AND x.we = m.we AND x.num
>= m.maxn
-- q8
`id` BIGINT, `name` STRING, `starttime` TIMESTAMP(3)
SELECT p.id, p.name, p.ws FROM (SELECT id, name, window_start AS ws, window_end AS we FROM TABLE(TUMBLE(TABLE person,
DESCRIPTOR(`dateTime`), INTERVAL '10' SECOND)) GROUP BY id, name, window_start, window_end) p JOIN (SELECT seller, window_start AS ws,
window_end AS we FROM TABLE(TUMBLE(TABLE auction, DESCRIPTOR(`dateTime`), INTERVAL '10' SECOND)) GROUP BY seller, window_start, window_end)
a ON p.id = a.seller AND p.ws = a.ws AND p.we = a.we
-- q10
`auction` BIGINT, `bidder` BIGINT, `price` BIGINT, `dateTime` TIMESTAMP(3), `extra` STRING, `dt` STRING, `hm` STRING
SELECT auction, bidder, price, `dateTime`, extra, DATE_FORMAT(`dateTime`, 'yyyy-MM-dd'), DATE_FORMAT(`dateTime`, 'HH:mm') FROM bid
-- q14
`auction` BIGINT, `bidder` BIGINT, `price` DECIMAL(23,3), `bidTimeType` STRING, `dateTime` TIMESTAMP(3), `extra` STRING, `c_counts` BIGINT
SELECT auction, bidder, 0.908 * price, CASE WHEN HOUR(`dateTime`) >= 8 AND HOUR(`dateTime`) <= 18 THEN 'dayTime' WHEN HOUR(`dateTime`) <= 6
OR HOUR(`dateTime`) >= 20 THEN 'nightTime' ELSE 'otherTime' END, `dateTime`, extra, CAST(CHAR_LENGTH(extra) - CHAR_LENGTH(REPLACE(extra,
'c', '')) AS BIGINT) FROM bid WHERE 0.908 * price > 1000000 AND 0.908 * price < 50000000
-- q15
`day` STRING, `total_bids` BIGINT, `rank1_bids` BIGINT, `rank2_bids` BIGINT, `rank3_bids` BIGINT, `total_bidders` BIGINT, `rank1_bidders` BIGINT, `rank2_bidders` BIGINT, `rank3_bidders` BIGINT, `total_auctions` BIGINT, `rank1_auctions` BIGINT, `rank2_auctions` BIGINT, `rank3_auctions` BIGINT
SELECT DATE_FORMAT(`dateTime`, 'yyyy-MM-dd'), COUNT(*) AS total_bids, COUNT(*) FILTER (WHERE price < 10000) AS rank1_bids, COUNT(*) FILTER
(WHERE price >= 10000 AND price < 1000000) AS rank2_bids, COUNT(*) FILTER (WHERE price >= 1000000) AS rank3_bids, COUNT(DISTINCT bidder) AS
total_bidders, COUNT(DISTINCT bidder) FILTER (WHERE price < 10000) AS rank1_bidders, COUNT(DISTINCT bidder) FILTER (WHERE price >= 10000 AND
price < 1000000) AS rank2_bidders, COUNT(DISTINCT bidder) FILTER (WHERE price >= 1000000) AS rank3_bidders, COUNT(DISTINCT auction) AS
total_auctions, COUNT(DISTINCT auction) FILTER (WHERE price < 10000) AS rank1_auctions, COUNT(DISTINCT auction) FILTER (WHERE price >= 10000
AND price < 1000000) AS rank2_auctions, COUNT(DISTINCT auction) FILTER (WHERE price >= 1000000) AS rank3_auctions FROM bid GROUP BY
DATE_FORMAT(`dateTime`, 'yyyy-MM-dd')
-- q16
`channel` STRING, `day` STRING, `minute` STRING, `total_bids` BIGINT, `rank1_bids` BIGINT, `rank2_bids` BIGINT, `rank3_bids` BIGINT, `total_bidders` BIGINT, `rank1_bidders` BIGINT, `rank2_bidders` BIGINT, `rank3_bidders` BIGINT, `total_auctions` BIGINT, `rank1_auctions` BIGINT, `rank2_auctions` BIGINT, `rank3_auctions` BIGINT
SELECT channel, DATE_FORMAT(`dateTime`, 'yyyy-MM-dd'), MAX(DATE_FORMAT(`dateTime`, 'HH:mm')), COUNT(*) AS total_bids, COUNT(*) FILTER (WHERE
price < 10000) AS rank1_bids, COUNT(*) FILTER (WHERE price >= 10000 AND price < 1000000) AS rank2_bids, COUNT(*) FILTER (WHERE price >=
1000000) AS rank3_bids, COUNT(DISTINCT bidder) AS total_bidders, COUNT(DISTINCT bidder) FILTER (WHERE price < 10000) AS rank1_bidders,
COUNT(DISTINCT bidder) FILTER (WHERE price >= 10000 AND price < 1000000) AS rank2_bidders, COUNT(DISTINCT bidder) FILTER (WHERE price >=
1000000) AS rank3_bidders, COUNT(DISTINCT auction) AS total_auctions, COUNT(DISTINCT auction) FILTER (WHERE price < 10000) AS
rank1_auctions, COUNT(DISTINCT auction) FILTER (WHERE price >= 10000 AND price < 1000000) AS rank2_auctions, COUNT(DISTINCT auction) FILTER
(WHERE price >= 1000000) AS rank3_auctions FROM bid GROUP BY channel, DATE_FORMAT(`dateTime`, 'yyyy-MM-dd')
-- q17
`auction` BIGINT, `day` STRING, `total_bids` BIGINT, `rank1_bids` BIGINT, `rank2_bids` BIGINT, `rank3_bids` BIGINT, `min_price` BIGINT, `max_price` BIGINT, `avg_price` BIGINT, `sum_price` BIGINT
SELECT auction, DATE_FORMAT(`dateTime`, 'yyyy-MM-dd'), COUNT(*) AS total_bids, COUNT(*) FILTER (WHERE price < 10000) AS rank1_bids, COUNT(*)
FILTER (WHERE price >= 10000 AND price < 1000000) AS rank2_bids, COUNT(*) FILTER (WHERE price >= 1000000) AS rank3_bids, MIN(price),
MAX(price), AVG(price), SUM(price) FROM bid GROUP BY auction, DATE_FORMAT(`dateTime`, 'yyyy-MM-dd')
-- q21
`auction` BIGINT, `bidder` BIGINT, `price` BIGINT, `channel` STRING, `channel_id` STRING
SELECT auction, bidder, price, channel, CASE WHEN LOWER(channel) = 'apple' THEN '0' WHEN LOWER(channel) = 'google' THEN '1' WHEN
LOWER(channel) = 'facebook' THEN '2' WHEN LOWER(channel) = 'baidu' THEN '3' ELSE REGEXP_EXTRACT(url, '(&|^)channel_id=([^&]*)', 2) END FROM
bid WHERE REGEXP_EXTRACT(url, '(&|^)channel_id=([^&]*)', 2) IS NOT NULL OR LOWER(channel) IN ('apple', 'google', 'facebook', 'baidu')
-- q22
`auction` BIGINT, `bidder` BIGINT, `price` BIGINT, `channel` STRING, `dir1` STRING, `dir2` STRING, `dir3` STRING
SELECT auction, bidder, price, channel, SPLIT_INDEX(url, '/', 3), SPLIT_INDEX(url, '/', 4), SPLIT_INDEX(url, '/', 5) FROM bid
