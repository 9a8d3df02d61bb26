package kafkahere

import (
	"errors"
	"fmt"
	"time"

	"github.com/IBM/sarama"
)

// askTimeout bounds each question of the trimmer to the broker beside it.
const askTimeout = 10 * time.Second

func (s *Server) trimForever() {
	ticker := time.NewTicker(s.cfg.TrimEvery)
	defer ticker.Stop()
	for {
		if err := s.Trim(time.Now().Add(-s.cfg.Retention)); err != nil && s.ctx.Err() == nil {
			s.logger.Error("trim the records of Kafka", "err", err)
		}
		select {
		case <-ticker.C:
		case <-s.ctx.Done():
			return
		}
	}
}

// Trim removes the records that were written before cutoff, but never the last one of a partition: it holds the end offset.
func (s *Server) Trim(cutoff time.Time) error {
	settings := sarama.NewConfig()
	settings.ClientID = "gatepost-trim"
	settings.Version = sarama.V2_4_0_0
	settings.Net.DialTimeout, settings.Net.ReadTimeout, settings.Net.WriteTimeout = askTimeout, askTimeout, askTimeout
	broker := sarama.NewBroker(s.address)
	if err := broker.Open(settings); err != nil {
		return err
	}
	if _, err := broker.Connected(); err != nil {
		return fmt.Errorf("reach the broker in this process: %w", err)
	}
	defer func() { _ = broker.Close() }()

	metadata, err := broker.GetMetadata(sarama.NewMetadataRequest(settings.Version, nil))
	if err != nil {
		return fmt.Errorf("list topics: %w", err)
	}
	question := &sarama.OffsetRequest{Version: 1}
	for _, t := range metadata.Topics {
		for _, p := range t.Partitions {
			question.AddBlock(t.Name, p.ID, cutoff.UnixMilli(), 1)
		}
	}
	if len(metadata.Topics) == 0 {
		return nil
	}
	answer, err := broker.GetAvailableOffsets(question)
	if err != nil {
		return fmt.Errorf("find the records of that time: %w", err)
	}
	var faults []error
	for _, t := range metadata.Topics {
		for _, info := range s.cluster.PartitionInfos(t.Name) {
			block := answer.GetBlock(t.Name, info.Partition)
			if block == nil || block.Err != sarama.ErrNoError {
				continue // deleted meanwhile
			}
			upTo := block.Offset // the first record to keep
			if upTo < 0 || upTo >= info.HighWatermark {
				upTo = info.HighWatermark - 1
			}
			if upTo <= info.LogStartOffset {
				continue
			}
			if err := s.cluster.DeleteRecords(t.Name, info.Partition, upTo); err != nil {
				faults = append(faults, fmt.Errorf("topic %s, partition %d: %w", t.Name, info.Partition, err))
			}
		}
	}
	return errors.Join(faults...)
}
