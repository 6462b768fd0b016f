-- What was known of the user and of the item just before each row (point in time).
--
-- `events`: the offline rows (user_id, item_id, timestamp, seq, label, value, oracle), and for each user
-- and each item one row at the end of time with no label, whose history is the snapshot that serving reads.
-- "Before" is the order (timestamp, seq); a frame ends one row earlier, so no row sees its own label.
-- Sums are of whole numbers (labels; residuals and ratings in millionths), so they are exact in any order.
CREATE OR REPLACE TEMP TABLE counted AS
SELECT *,
    count(label) OVER user_past AS user_n,
    coalesce(sum(label) OVER user_past, 0) AS user_positives,
    count(label) OVER item_past AS item_n,
    coalesce(sum(label) OVER item_past, 0) AS item_positives
FROM events
WINDOW
    user_past AS (PARTITION BY user_id ORDER BY timestamp, seq ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING),
    item_past AS (PARTITION BY item_id ORDER BY timestamp, seq ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING);

CREATE OR REPLACE TEMP TABLE rated AS
SELECT *,
    (user_positives + 1) / (user_n + 2) AS user_positive_rate,
    (item_positives + 1) / (item_n + 2) AS item_positive_rate,
    CAST(1e6 * (label - (item_positives + 1) / (item_n + 2)) AS BIGINT) AS above_item,
    CAST(1e6 * (label - (user_positives + 1) / (user_n + 2)) AS BIGINT) AS above_user
FROM counted;

CREATE OR REPLACE TEMP TABLE history AS
SELECT user_id, item_id, timestamp, seq, label, part, oracle,
    ln(1 + user_n)::FLOAT AS user_count,
    user_positive_rate::FLOAT AS user_positive_rate,
    (coalesce(sum(above_item) OVER user_past, 0) / 1e6 / (user_n + $shrink))::FLOAT AS user_bias,
    (sum(value) OVER user_past / 1e6 / user_n)::FLOAT AS user_rating_mean,
    ln(1 + item_n)::FLOAT AS item_count,
    item_positive_rate::FLOAT AS item_positive_rate,
    (coalesce(sum(above_user) OVER item_past, 0) / 1e6 / (item_n + $shrink))::FLOAT AS item_bias,
    (sum(value) OVER item_past / 1e6 / item_n)::FLOAT AS item_rating_mean
    $term_counts
FROM rated LEFT JOIN item_terms USING (item_id)
WINDOW
    user_past AS (PARTITION BY user_id ORDER BY timestamp, seq ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING),
    user_recent AS (PARTITION BY user_id ORDER BY timestamp, seq ROWS BETWEEN $window PRECEDING AND 1 PRECEDING),
    item_past AS (PARTITION BY item_id ORDER BY timestamp, seq ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING);
