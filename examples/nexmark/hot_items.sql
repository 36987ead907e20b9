-- Nexmark query 5, "hot items": which auctions had the most bids in the last ten seconds, every two seconds.
CREATE TABLE events (
  event_type INT,
  bid ROW<auction BIGINT, bidder BIGINT, price BIGINT, channel STRING, url STRING, `dateTime` TIMESTAMP(3), extra STRING>,
  `dateTime` AS bid.`dateTime`,
  WATERMARK FOR `dateTime` AS `dateTime` - INTERVAL '4' SECOND
) WITH (
  'connector' = 'nexmark',
  'events.num' = '10000000',
  'next-event.rate' = '100000'
);

CREATE VIEW bid AS
SELECT bid.auction, bid.bidder, bid.price, `dateTime` FROM events WHERE event_type = 2;

SELECT hot.ws AS window_start, hot.auction, hot.num AS bids
FROM (
  SELECT auction, COUNT(*) AS num, window_start AS ws, window_end AS we
  FROM TABLE(HOP(TABLE bid, DESCRIPTOR(`dateTime`), INTERVAL '2' SECOND, INTERVAL '10' SECOND))
  GROUP BY auction, window_start, window_end
) hot
JOIN (
  SELECT MAX(num) AS maxn, ws, we
  FROM (
    SELECT COUNT(*) AS num, window_start AS ws, window_end AS we
    FROM TABLE(HOP(TABLE bid, DESCRIPTOR(`dateTime`), INTERVAL '2' SECOND, INTERVAL '10' SECOND))
    GROUP BY auction, window_start, window_end
  )
  GROUP BY ws, we
) best
ON hot.ws = best.ws AND hot.we = best.we AND hot.num >= best.maxn;
